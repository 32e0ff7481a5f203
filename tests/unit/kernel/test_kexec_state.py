# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import kexec_state
from kexecwatchd.kernel.kexec_state import KexecState, parse_cma_ranges, parse_lockdown
from kexecwatchd.ranges import RangeSet

from .trees import populate

SYSCTL = "proc/sys/kernel"


def test_an_older_kernel(tmp_path: Path) -> None:
    populate(tmp_path, {"sys/kernel/kexec_loaded": "0\n", "sys/kernel/kexec_crash_loaded": "1\n"})
    assert kexec_state.read(tmp_path) == KexecState(crash_loaded=True, reboot_loaded=False)


def test_everything_at_the_new_paths_comes_first(tmp_path: Path) -> None:
    populate(
        tmp_path,
        {
            "sys/kernel/kexec/loaded": "1\n",
            "sys/kernel/kexec/crash_loaded": "0\n",
            "sys/kernel/kexec_loaded": "0\n",
            "sys/kernel/kexec_crash_loaded": "1\n",
            "sys/kernel/kexec/crash_cma_ranges": "100000000-10c7fffff\n10f000000-10fffffff\n",
            f"{SYSCTL}/kexec_load_disabled": "1\n",
            f"{SYSCTL}/kexec_load_limit_panic": "3\n",
            f"{SYSCTL}/kexec_load_limit_reboot": "0\n",
            "sys/kernel/security/lockdown": "none integrity [confidentiality]\n",
        },
    )
    assert kexec_state.read(tmp_path) == KexecState(
        crash_loaded=False,
        reboot_loaded=True,
        load_disabled=True,
        limit_panic=3,
        limit_reboot=0,
        lockdown="confidentiality",
        crash_cma=RangeSet.of((0x100000000, 0x10C800000), (0x10F000000, 0x110000000)),
    )


def test_a_kernel_without_kexec(tmp_path: Path) -> None:
    assert kexec_state.read(tmp_path) == KexecState(crash_loaded=None, reboot_loaded=None)


def test_the_size_of_the_reservation_is_never_read(tmp_path: Path) -> None:
    """Reading it takes the kexec lock; here it would raise."""
    for path in ("sys/kernel/kexec/crash_size", "sys/kernel/kexec_crash_size"):
        (tmp_path / path).mkdir(parents=True)
    kexec_state.read(tmp_path)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("sys/kernel/kexec/crash_cma_ranges", "somewhere"),
        ("sys/kernel/kexec/crash_cma_ranges", "2000-1000"),
        (f"{SYSCTL}/kexec_load_limit_panic", "many"),
    ],
)
def test_nonsense_names_its_file(tmp_path: Path, path: str, content: str) -> None:
    populate(tmp_path, {path: content})
    with pytest.raises(ValueError, match=f"{tmp_path}/{path}"):
        kexec_state.read(tmp_path)


@pytest.mark.parametrize(
    ("cpuinfo", "active"),
    [
        ("processor\t: 0\nflags\t\t: fpu la57 rdpid\nvmx flags\t: vnmi\n\n", True),
        ("processor\t: 0\nflags\t\t: fpu la570\n\nflags\t\t: la57\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n\nflags\t\t: la57\n", False),
        ("", False),
    ],
)
def test_la57(tmp_path: Path, cpuinfo: str, active: bool) -> None:
    populate(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert kexec_state.la57(tmp_path) is active


def test_names_of_this_boot(tmp_path: Path) -> None:
    populate(
        tmp_path,
        {
            f"{SYSCTL}/random/boot_id": "4f2c3a6e-0000-4000-8000-123456789abc\n",
            f"{SYSCTL}/osrelease": "6.12.117+deb13-amd64\n",
        },
    )
    assert kexec_state.boot_id(tmp_path) == "4f2c3a6e-0000-4000-8000-123456789abc"
    assert kexec_state.kernel_release(tmp_path) == "6.12.117+deb13-amd64"


def test_lockdown_without_a_choice() -> None:
    assert parse_lockdown("") == parse_lockdown("none integrity") == ""


@given(st.lists(st.tuples(st.integers(0, 1 << 50), st.integers(1, 1 << 40))))
def test_cma_ranges_survive(rows: list[tuple[int, int]]) -> None:
    text = "".join(f"{start:08x}-{start + size - 1:08x}\n" for start, size in rows)
    assert parse_cma_ranges(text) == RangeSet.of(*((s, s + n) for s, n in rows))


@given(st.text(st.sampled_from("0123456789abcdef-\n []none")))
def test_any_text_parses_or_is_refused(text: str) -> None:
    parse_lockdown(text)
    try:
        parse_cma_ranges(text)
    except ValueError:
        assert text.strip()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sys/kernel/crash_elfcorehdr_size", True),  # 6.12
        ("sys/kernel/kexec/crash_elfcorehdr_size", True),  # 7.3
        ("sys/kernel/kexec_crash_size", False),  # 6.1
    ],
)
def test_updates_itself(tmp_path: Path, path: str, expected: bool) -> None:
    (tmp_path / path).mkdir(parents=True)  # to read it would raise
    assert kexec_state.updates_itself(tmp_path) is expected
