# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot-time memory map: recorded once, read back in this boot alone."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kexecwatchd import bootmemory
from kexecwatchd.kernel.iomem import AddressesHidden
from kexecwatchd.model import BootMemory
from kexecwatchd.ranges import RangeSet
from tests.fake_kernel import BLOCK, BOOT_RAM, DIMM, FakeKernel
from tests.unit.kernel.test_firmware_map import boot_params
from tests.unit.kernel.trees import populate

RECORD = "run/kexecwatchd/boot-memory.json"
DIMM_RAM = RangeSet.of((DIMM * BLOCK, (DIMM + 4) * BLOCK))


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


def show_firmware_map(kernel: FakeKernel, ram: RangeSet) -> None:
    data = boot_params([(r.start, r.size, 1) for r in ram])
    populate(kernel.root, {"sys/kernel/boot_params/data": data})


def test_what_was_there_at_boot_is_told_from_what_came(kernel: FakeKernel) -> None:
    bootmemory.record(kernel.root)
    kernel.add_dimm()
    assert bootmemory.read(kernel.root, "a-boot") == BootMemory(BOOT_RAM)


def test_what_a_driver_manages_does_not_count(kernel: FakeKernel) -> None:
    kernel.driver_managed = DIMM_RAM
    kernel.add_dimm()
    bootmemory.record(kernel.root)
    assert bootmemory.read(kernel.root, "a-boot") == BootMemory(BOOT_RAM)


def test_the_record_is_roots_alone(kernel: FakeKernel) -> None:
    bootmemory.record(kernel.root)
    path = kernel.path(RECORD)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".boot")] == []


def test_the_first_record_of_a_boot_stays(kernel: FakeKernel) -> None:
    bootmemory.record(kernel.root)
    kernel.add_dimm()
    bootmemory.record(kernel.root)
    assert bootmemory.read(kernel.root, "a-boot") == BootMemory(BOOT_RAM)


def test_another_boots_record_counts_for_nothing_and_is_replaced(kernel: FakeKernel) -> None:
    bootmemory.record(kernel.root)
    kernel.write("proc/sys/kernel/random/boot_id", "another-boot\n")
    assert bootmemory.read(kernel.root, "another-boot") is None
    kernel.add_dimm()
    bootmemory.record(kernel.root)
    assert bootmemory.read(kernel.root, "another-boot") == BootMemory(BOOT_RAM | DIMM_RAM)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"boot_id": "a-boot"}',
        '{"boot_id": "a-boot", "system_ram": [["a", "b"]]}',
        '{"boot_id": "a-boot", "system_ram": [[-1, 1]]}',
    ],
)
def test_a_broken_record_counts_for_nothing_and_is_replaced(
    kernel: FakeKernel, content: str
) -> None:
    kernel.write(RECORD, content)
    assert bootmemory.read(kernel.root, "a-boot") is None
    bootmemory.record(kernel.root)
    assert bootmemory.read(kernel.root, "a-boot") == BootMemory(BOOT_RAM)


def test_hidden_addresses_leave_no_record(kernel: FakeKernel) -> None:
    kernel.show_map(hidden=True)
    with pytest.raises(AddressesHidden):
        bootmemory.record(kernel.root)
    assert not kernel.path(RECORD).exists()


def test_the_program_says_what_failed_without_addresses(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootmemory, "record", functools.partial(bootmemory.record, kernel.root))
    assert bootmemory.main() == 0
    kernel.path(RECORD).unlink()
    kernel.write("proc/iomem", "12345000-1 : System RAM\n")
    assert bootmemory.main() == 1
    said = capsys.readouterr().err
    assert "MapError" in said
    assert "12345000" not in said


def test_firmwares_own_map_makes_a_late_record_right(kernel: FakeKernel) -> None:
    show_firmware_map(kernel, BOOT_RAM | RangeSet.of((0, 0x1000)))
    kernel.add_dimm()
    bootmemory.record(kernel.root)
    assert bootmemory.read(kernel.root, "a-boot") == BootMemory(BOOT_RAM, BOOT_RAM)


def test_a_dimm_that_only_acpi_knew_is_no_boot_memory(kernel: FakeKernel) -> None:
    kernel.add_dimm()
    show_firmware_map(kernel, BOOT_RAM)
    bootmemory.record(kernel.root)
    assert bootmemory.read(kernel.root, "a-boot") == BootMemory(BOOT_RAM, BOOT_RAM)


def test_a_dimm_that_the_loader_told_of_and_the_command_line_took_out(kernel: FakeKernel) -> None:
    """As kexec-tools start a kernel; the next one after it must be told to leave it out as well."""
    kernel.add_dimm()
    show_firmware_map(kernel, BOOT_RAM | DIMM_RAM)
    (dimm,) = DIMM_RAM
    kernel.write("proc/cmdline", f"ro memmap={dimm.size:#x}%{dimm.start:#x}-1\n")
    bootmemory.record(kernel.root)
    expected = BootMemory(BOOT_RAM, handed_on=BOOT_RAM, hidden=DIMM_RAM)
    assert bootmemory.read(kernel.root, "a-boot") == expected


def test_a_firmware_map_that_cannot_be_read_changes_nothing(kernel: FakeKernel) -> None:
    populate(kernel.root, {"sys/kernel/boot_params/data": b"no boot_params"})
    bootmemory.record(kernel.root)
    assert bootmemory.read(kernel.root, "a-boot") == BootMemory(BOOT_RAM)


def test_the_record_is_json_in_the_promised_shape(kernel: FakeKernel) -> None:
    bootmemory.record(kernel.root)
    assert json.loads(kernel.path(RECORD).read_text()) == {
        "boot_id": "a-boot",
        "system_ram": [[r.start, r.end] for r in BOOT_RAM],
    }


def test_it_imports_little() -> None:
    """It runs before almost anything else at boot."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, kexecwatchd.bootmemory; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    slow = {"pydantic", "dbus_fast", "asyncio", "pyudev", "systemd", "hashlib", "ctypes"}
    assert not slow & set(done.stdout.split())
