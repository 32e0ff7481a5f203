# SPDX-License-Identifier: GPL-2.0-or-later
"""One look: what is read, what is read again, and what is said when something cannot be."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd import bootmemory
from kexecwatchd.kernel import elfcorehdr
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_ON_CRASH
from kexecwatchd.ledger import ImageRecord, Ledger
from kexecwatchd.model import (
    BlockState,
    BootMemory,
    CoreHeader,
    Drift,
    ImageFiles,
    PlacedBy,
    Placement,
    Segment,
)
from kexecwatchd.observe import FINGERPRINT_BYTES, Observer
from kexecwatchd.ranges import Range, RangeSet
from tests.fake_kernel import BLOCK, BOOT_RAM, CMDLINE, CRASH_REGION, DIMM, FakeKernel
from tests.unit.kernel.trees import kexec_rules

NOTHING_KNOWN = Ledger(boot_id="a-boot")
DIMM_RANGE = RangeSet.of((DIMM * BLOCK, (DIMM + 4) * BLOCK))


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


@pytest.fixture
def observer(kernel: FakeKernel) -> Observer:
    return Observer(kernel.root, "x86_64")


def load_crash(kernel: FakeKernel, cmdline: str = CMDLINE) -> None:
    kernel_fd = os.open(kernel.path("boot/vmlinuz"), os.O_RDONLY)
    initrd_fd = os.open(kernel.path("boot/initrd.img"), os.O_RDONLY)
    kernel.load(kernel_fd, initrd_fd, cmdline, KEXEC_FILE_ON_CRASH)
    os.close(kernel_fd)
    os.close(initrd_fd)


def placed(ranges: RangeSet) -> Ledger:
    segments = tuple(Segment(r.start, r.size) for r in ranges)
    placement = Placement(segments, PlacedBy.LOG)
    return Ledger(boot_id="a-boot", reboot=ImageRecord(placement=placement))


def test_a_machine_without_images(observer: Observer) -> None:
    seen = observer.look(NOTHING_KNOWN)
    assert seen.map is not None
    assert seen.map.system_ram == BOOT_RAM
    assert seen.map.crash_regions == RangeSet([CRASH_REGION])
    assert (seen.crash_loaded, seen.reboot_loaded) == (False, False)
    assert (seen.header, seen.header_problem, seen.fingerprint) == (None, "", "")
    assert (seen.load_disabled, seen.limit_panic, seen.limit_reboot) == (False, -1, -1)


def test_a_crash_image_is_read_back_and_compared(kernel: FakeKernel, observer: Observer) -> None:
    load_crash(kernel)
    seen = observer.look(NOTHING_KNOWN)
    assert seen.header is not None
    assert seen.header.address == CRASH_REGION.start
    assert seen.drift == Drift()
    assert seen.crash_cmdline == f"elfcorehdr={CRASH_REGION.start:#x} {CMDLINE}"
    kernel.add_dimm()
    kernel.add_cpu()
    assert observer.look(NOTHING_KNOWN).drift == Drift(DIMM_RANGE, RangeSet(), ("cpu2",))


def test_what_an_unload_left_behind_is_not_read(kernel: FakeKernel, observer: Observer) -> None:
    load_crash(kernel)
    kernel.unload(KEXEC_FILE_ON_CRASH)
    assert observer.look(NOTHING_KNOWN).header is None


def test_the_kernels_own_update_leaves_the_fingerprint(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path, crash_hotplug=True)
    observer = Observer(tmp_path, "x86_64")
    load_crash(kernel)
    before = observer.look(NOTHING_KNOWN)
    kernel.add_dimm()
    after = observer.look(NOTHING_KNOWN)
    assert after.header != before.header
    assert after.fingerprint == before.fingerprint != ""


def test_another_load_changes_the_fingerprint(kernel: FakeKernel, observer: Observer) -> None:
    load_crash(kernel)
    before = observer.look(NOTHING_KNOWN).fingerprint
    load_crash(kernel)
    assert observer.look(NOTHING_KNOWN).fingerprint != before


def test_a_header_at_the_end_takes_no_part_in_the_fingerprint(
    kernel: FakeKernel, observer: Observer
) -> None:
    """kexec-tools puts it there, where someone may update it."""
    kernel.load_crash_by_kexec_tools()
    before = observer.look(NOTHING_KNOWN)
    assert before.header is not None
    assert before.header.address > CRASH_REGION.end - FINGERPRINT_BYTES
    kernel.put(before.header.address + 40, b"\x01")  # e_shoff, which nobody reads
    after = observer.look(NOTHING_KNOWN)
    assert after.fingerprint == before.fingerprint != ""


def test_a_changed_block_is_read_again_and_others_are_not(
    kernel: FakeKernel, observer: Observer
) -> None:
    observer.look(NOTHING_KNOWN)
    for number in (1, 2):
        kernel.write(f"sys/devices/system/memory/memory{number}/state", "offline\n")
    seen = observer.look(NOTHING_KNOWN, changed={1})
    assert seen.blocks.by_number[1].state is BlockState.OFFLINE
    assert seen.blocks.by_number[2].state is BlockState.ONLINE
    assert observer.look(NOTHING_KNOWN).blocks.by_number[2].state is BlockState.OFFLINE


def test_blocks_under_the_reboot_image_are_read_at_every_look(
    kernel: FakeKernel, observer: Observer
) -> None:
    """What is to be proven is read, not remembered."""
    kernel.add_dimm()
    observer.look(NOTHING_KNOWN)
    kernel.write(f"sys/devices/system/memory/memory{DIMM}/state", "offline\n")
    under = RangeSet.of((DIMM * BLOCK, DIMM * BLOCK + 4096))
    seen = observer.look(placed(under), changed=set())
    assert seen.blocks.by_number[DIMM].state is BlockState.OFFLINE


def test_movable_memory_is_what_valid_zones_says(kernel: FakeKernel, observer: Observer) -> None:
    """A zone spans other zones' memory too: here the second of three blocks."""
    assert not observer.look(NOTHING_KNOWN).movable
    kernel.add_dimm(DIMM, 1, zone="Movable")
    kernel.add_dimm(DIMM + 1, 1, zone="Normal")
    kernel.add_dimm(DIMM + 2, 1, zone="Movable")
    outer = RangeSet.of(*((n * BLOCK, (n + 1) * BLOCK) for n in (DIMM, DIMM + 2)))
    assert observer.look(NOTHING_KNOWN, changed=set()).movable == outer
    kernel.set_state(DIMM, "offline")
    assert observer.look(NOTHING_KNOWN, changed={DIMM}).movable == outer - RangeSet.of(
        (DIMM * BLOCK, (DIMM + 1) * BLOCK)
    )


def test_a_block_that_comes_back_in_another_zone(kernel: FakeKernel, observer: Observer) -> None:
    kernel.add_dimm(DIMM, 2, zone="Movable")
    assert observer.look(NOTHING_KNOWN).movable.size == 2 * BLOCK
    kernel.set_state(DIMM, "offline")
    kernel.zones[DIMM] = "Normal"
    kernel.set_state(DIMM, "online")
    assert observer.look(NOTHING_KNOWN, changed={DIMM}).movable.size == BLOCK


def test_no_zone_is_asked_for_where_none_is_movable(
    kernel: FakeKernel, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.add_dimm()

    def zone(self: object, number: int) -> str:
        raise AssertionError(f"a file was read for block {number}")

    monkeypatch.setattr("kexecwatchd.kernel.blocks.BlockReader.zone", zone)
    assert not observer.look(NOTHING_KNOWN).movable


def test_the_memory_of_boot_is_what_was_recorded(kernel: FakeKernel, observer: Observer) -> None:
    assert observer.look(NOTHING_KNOWN).boot is None
    bootmemory.record(kernel.root)
    kernel.add_dimm()
    assert observer.look(NOTHING_KNOWN).boot == BootMemory(BOOT_RAM)


def test_the_memory_of_boot_is_read_once(kernel: FakeKernel, observer: Observer) -> None:
    bootmemory.record(kernel.root)
    observer.look(NOTHING_KNOWN)
    kernel.path("run/kexecwatchd/boot-memory.json").unlink()
    assert observer.look(NOTHING_KNOWN).boot == BootMemory(BOOT_RAM)


def files_of(kernel: FakeKernel) -> ImageFiles:
    return ImageFiles(kernel.path("boot/vmlinuz"), kernel.path("boot/initrd.img"), CMDLINE)


def test_a_forecast_is_made_where_it_is_asked_for(kernel: FakeKernel, observer: Observer) -> None:
    kexec_rules(kernel.root)
    seen = observer.look(NOTHING_KNOWN, reboot_files=files_of(kernel))
    assert seen.forecast is not None
    assert seen.forecast.source is PlacedBy.PREDICTION
    assert seen.forecast.ranges.ranges[-1].end == BOOT_RAM.ranges[-1].end
    kernel.add_dimm()
    seen = observer.look(NOTHING_KNOWN, reboot_files=files_of(kernel))
    assert seen.forecast is not None
    assert DIMM_RANGE.covers(seen.forecast.ranges)
    without = observer.look(NOTHING_KNOWN)
    assert (without.forecast, without.forecast_problem) == (None, "")


def test_without_a_map_there_is_no_forecast(kernel: FakeKernel, observer: Observer) -> None:
    kexec_rules(kernel.root)
    kernel.path("proc/iomem").unlink()
    seen = observer.look(NOTHING_KNOWN, reboot_files=files_of(kernel))
    assert (seen.map, seen.forecast, seen.forecast_problem) == (None, None, "")


def test_a_block_that_is_gone_is_movable_no_more(kernel: FakeKernel, observer: Observer) -> None:
    """Its zone is known from before, and those beside it still are movable."""
    kernel.add_dimm(DIMM, 3, zone="Movable")
    assert observer.look(NOTHING_KNOWN).movable.size == 3 * BLOCK
    kernel.remove_blocks(DIMM + 1, 1)
    outer = RangeSet.of(*((n * BLOCK, (n + 1) * BLOCK) for n in (DIMM, DIMM + 2)))
    assert observer.look(NOTHING_KNOWN, changed=set()).movable == outer


@pytest.mark.parametrize("cma", [True, False])
def test_cma_and_kexec_tools_are_looked_for(tmp_path: Path, cma: bool) -> None:
    region = Range(256 << 20, 320 << 20) if cma else None
    FakeKernel(tmp_path, cma=region, tools=cma)
    seen = Observer(tmp_path, "x86_64").look(NOTHING_KNOWN)
    assert seen.cma is cma
    assert ("install kexec-tools" in seen.tools_obstacle) is not cma


def test_driver_managed_memory_is_told_apart(kernel: FakeKernel, observer: Observer) -> None:
    kernel.driver_managed = DIMM_RANGE
    kernel.add_dimm()
    memory = observer.look(NOTHING_KNOWN).map
    assert memory is not None
    assert memory.driver_managed == DIMM_RANGE
    assert memory.resources == BOOT_RAM.ranges


def test_a_segment_over_a_block_that_is_gone(kernel: FakeKernel, observer: Observer) -> None:
    kernel.add_dimm()
    observer.look(NOTHING_KNOWN)
    kernel.remove_dimm()
    seen = observer.look(placed(DIMM_RANGE), changed=set())
    assert not seen.online & DIMM_RANGE


def test_a_map_that_cannot_be_read(kernel: FakeKernel, observer: Observer) -> None:
    load_crash(kernel)
    kernel.path("proc/iomem").unlink()
    seen = observer.look(NOTHING_KNOWN)
    assert seen.map is None
    assert "No such file" in seen.problem
    assert seen.crash_loaded
    assert seen.header is None


UNREADABLE = {
    "no elfcorehdr": lambda kernel: kernel.put(CRASH_REGION.start, b"\x7fELF" + bytes(60)),
    "unmapped": lambda kernel: kernel.put(CRASH_REGION.start, bytes(CRASH_REGION.size)),
    "a map of nonsense": lambda kernel: kernel.write("proc/iomem", "12345000-12344fff : x\n"),
    "a note of nonsense": lambda kernel: kernel.write(
        "sys/devices/system/cpu/cpu0/crash_notes", "?\n"
    ),
    "another region": lambda kernel: kernel.write(
        "proc/iomem",
        "00100000-3fffffff : System RAM\n  20000000-200fffff : Crash kernel\n",
    ),
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_what_cannot_be_read_is_said_without_addresses(
    kernel: FakeKernel, observer: Observer, how: str
) -> None:
    load_crash(kernel)
    UNREADABLE[how](kernel)
    seen = observer.look(NOTHING_KNOWN)
    assert seen.header is None
    told = seen.problem + seen.header_problem
    assert told
    assert "0x" not in told
    for address in ("30000000", "12345000", "20000000"):
        assert address not in told


def test_a_refusal_is_said(
    kernel: FakeKernel, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lockdown=confidentiality."""
    load_crash(kernel)
    opening = os.open

    def refuse(path: Path, *arguments: int) -> int:
        if str(path).endswith("proc/kcore"):
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        return opening(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    seen = observer.look(NOTHING_KNOWN)
    assert seen.header is None
    assert "Operation not permitted" in seen.header_problem
    assert seen.map is not None


def test_a_map_that_moves_during_the_look_is_read_again(
    kernel: FakeKernel, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a header that lists what came meanwhile would seem to list what is not there."""
    load_crash(kernel)
    find = elfcorehdr.find

    def find_late(*args: Any) -> CoreHeader:
        if DIMM_RANGE not in seen_by:
            seen_by.append(DIMM_RANGE)
            kernel.add_dimm()
            load_crash(kernel)
        return find(*args)

    seen_by: list[RangeSet] = []
    monkeypatch.setattr(elfcorehdr, "find", find_late)
    assert observer.look(NOTHING_KNOWN).drift == Drift()
    assert seen_by, "the map did move"


def test_a_known_crash_image_is_not_gone_at_first_sight(
    kernel: FakeKernel, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the kernel writes a new elfcorehdr it says that none is loaded."""
    load_crash(kernel)
    known = Ledger(boot_id="a-boot", crash=ImageRecord(ram=BOOT_RAM))
    kernel.write("sys/kernel/kexec_crash_loaded", "0\n")

    def updated(_: float) -> None:
        kernel.write("sys/kernel/kexec_crash_loaded", "1\n")

    monkeypatch.setattr("time.sleep", updated)
    assert observer.look(known).crash_loaded
    kernel.write("sys/kernel/kexec_crash_loaded", "0\n")
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert not observer.look(known).crash_loaded


def test_state_that_cannot_be_read_is_a_problem(kernel: FakeKernel, observer: Observer) -> None:
    kernel.write("sys/devices/system/memory/block_size_bytes", "junk\n")
    seen = observer.look(NOTHING_KNOWN)
    assert "cannot be read" in seen.problem
    assert (seen.map, seen.crash_loaded, seen.reboot_loaded) == (None, None, None)
    kernel.write("sys/devices/system/memory/block_size_bytes", "8000000\n")
    assert observer.look(NOTHING_KNOWN, changed=()).problem == ""
