# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.cpus import crash_notes, parse_cpu_list
from kexecwatchd.model import Note

from .trees import populate

CPU = "sys/devices/system/cpu"


def notes_of(number: int, address: str = "3e50f600", size: str = "368") -> dict[str, str]:
    return {
        f"{CPU}/cpu{number}/crash_notes": f"{address}\n",
        f"{CPU}/cpu{number}/crash_notes_size": f"{size}\n",
    }


def test_present_cpus_and_vmcoreinfo(tmp_path: Path) -> None:
    populate(
        tmp_path,
        {
            f"{CPU}/present": "0-1\n",
            **notes_of(0),
            **notes_of(1, "13e5cf600"),
            **notes_of(2),  # possible, not present: 6.1 gives it no PT_NOTE
            "sys/kernel/vmcoreinfo": "0x0000000101e4d000 1024\n",
        },
    )
    assert crash_notes(tmp_path) == {
        "cpu0": Note(0x3E50F600, 368),
        "cpu1": Note(0x13E5CF600, 368),
        "vmcoreinfo": Note(0x101E4D000, 0x1024),
    }


def test_a_kernel_without_kexec_has_no_notes(tmp_path: Path) -> None:
    populate(tmp_path, {f"{CPU}/present": "0-3\n", f"{CPU}/cpu0/topology/core_id": "0\n"})
    assert crash_notes(tmp_path) == {}
    assert crash_notes(tmp_path / "nothing") == {}


def test_a_cpu_that_leaves_is_left_out(tmp_path: Path) -> None:
    populate(tmp_path, {f"{CPU}/present": "0-1\n", **notes_of(0), **notes_of(1)})
    (tmp_path / CPU / "cpu1/crash_notes_size").unlink()
    assert list(crash_notes(tmp_path)) == ["cpu0"]


def test_what_cannot_be_read_is_not_left_out(tmp_path: Path) -> None:
    populate(tmp_path, {f"{CPU}/present": "0\n", f"{CPU}/cpu0/crash_notes_size": "368\n"})
    (tmp_path / CPU / "cpu0/crash_notes").mkdir()
    with pytest.raises(IsADirectoryError):
        crash_notes(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        notes_of(0, address="x"),
        notes_of(0, size="368 bytes"),
        {"sys/kernel/vmcoreinfo": "here there"},
        {f"{CPU}/present": "0-"},
        {f"{CPU}/present": "3-1"},
    ],
)
def test_nonsense_names_its_file(tmp_path: Path, files: dict[str, str]) -> None:
    populate(tmp_path, {f"{CPU}/present": "0\n"} | files)
    with pytest.raises(ValueError, match=str(tmp_path)):
        crash_notes(tmp_path)


@given(st.sets(st.integers(0, 200)))
def test_cpu_lists_say_what_they_mean(numbers: set[int]) -> None:
    parts: list[str] = []
    for number in sorted(numbers):
        if parts and number - 1 in numbers and number % 7:
            parts[-1] = f"{parts[-1].split('-')[0]}-{number}"
        else:
            parts.append(str(number))
    assert parse_cpu_list(",".join(parts) + "\n") == tuple(sorted(numbers))
