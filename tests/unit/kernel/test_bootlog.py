# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import bootlog
from kexecwatchd.kernel.kmsg import KernelLog

from .trees import populate

VERSION = "Linux version 6.12.48+deb13-amd64 (debian-kernel@lists.debian.org) #1 SMP"
RESERVED = "crashkernel reserved: 0x0000000011000000 - 0x0000000021000000 (256 MB)"
LOW = "Reserving the low 1MiB of memory for crashkernel"


class Journal:
    """As much of journal.Reader as is used, with these entries in it."""

    entries: tuple[dict[str, Any], ...] = ()

    def __init__(self) -> None:
        self.wanted: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def this_boot(self) -> None:
        self.wanted["_BOOT_ID"] = "this"

    def add_match(self, **fields: str) -> None:
        self.wanted.update(fields)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        own = {"_BOOT_ID": "this", "_TRANSPORT": "kernel", "SYSLOG_FACILITY": 0}
        for entry in self.entries:
            if all(str((own | entry)[name]) == value for name, value in self.wanted.items()):
                yield entry


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> type[Journal]:
    class Kept(Journal):
        pass

    monkeypatch.setattr("systemd.journal.Reader", Kept)
    return Kept


class TestRead:
    def test_the_kernels_buffer(self, tmp_path: Path) -> None:
        kmsg = f"5,0,0,-;{VERSION}\n6,1,0,-;Booting\n6,2,0,-;{RESERVED}\n12,3,1,-;crashkernel: me\n"
        populate(tmp_path, {"dev/kmsg": kmsg})
        assert bootlog.read(tmp_path) == (VERSION, RESERVED)

    def test_no_log_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="dev/kmsg"):
            bootlog.read(tmp_path)

    def test_the_journal_first(self, kept: type[Journal], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kexecwatchd.kernel.bootlog.KernelLog", None)
        kept.entries = (
            {"MESSAGE": "crashkernel: of another boot", "_BOOT_ID": "before"},
            {"MESSAGE": VERSION},
            {"MESSAGE": "crashkernel: of a program", "SYSLOG_FACILITY": 1},
            {"MESSAGE": "crashkernel: of a service", "_TRANSPORT": "stdout"},
            {"MESSAGE": b"\xff no text"},
            {"MESSAGE": RESERVED},
        )
        assert bootlog.read() == (VERSION, RESERVED)

    def test_a_journal_that_begins_later_does_not_do(
        self, kept: type[Journal], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        populate(tmp_path, {"dev/kmsg": f"5,0,0,-;{VERSION}\n"})
        monkeypatch.setattr(
            "kexecwatchd.kernel.bootlog.KernelLog", lambda root: KernelLog(tmp_path)
        )
        kept.entries = ({"MESSAGE": RESERVED},)
        assert bootlog.read() == (VERSION,)


@pytest.mark.parametrize(
    "line",
    [
        VERSION,
        RESERVED,
        LOW,
        "crahskernel: Memory value expected after '@'",
        "Cannot reserve 256MB crashkernel low memory, please try smaller size.",
        "Reserving 256MB of memory at 240MB for crashkernel (System RAM: 511MB)",
        "Memory Encryption Features active: AMD SEV",
        "secureboot: Secure boot enabled",
        "Kernel is locked down from EFI Secure Boot; see man kernel_lockdown.7",
        "KASLR disabled due to lack of seed",
    ],
)
def test_matters(line: str) -> None:
    assert bootlog.matters([line]) == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "Command line: ro crashkernel=256M",
        "Kernel command line: ro crashkernel=256M memmap=1M$0x10000000",
        'Unknown kernel command line parameters "crashkernels=1", will be passed to user space.',
        "ACPI: SSDT 0x000000002FFE1D31 000030",
        "Freeing SMP alternatives memory: 40K",
    ],
)
def test_does_not(line: str) -> None:
    assert bootlog.matters([line]) == ()


def test_whole() -> None:
    assert bootlog.whole((VERSION, LOW))
    assert not bootlog.whole((LOW,))
    assert not bootlog.whole(())


@given(st.lists(st.text()))
def test_any_lines_do(lines: list[str]) -> None:
    assert set(bootlog.matters(lines)) <= set(lines)
