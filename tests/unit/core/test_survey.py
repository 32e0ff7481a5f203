# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of a machine of files: what is read where, and what is said when it cannot be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kexecwatchd import bootmemory, ledger
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_ON_CRASH
from kexecwatchd.ledger import ImageRecord, Ledger
from kexecwatchd.memorypicture import MemoryPicture
from kexecwatchd.model import Hazard, PlacedBy, Placement, Segment
from kexecwatchd.survey import SurveyError, survey
from tests.fake_kernel import BLOCK, CMDLINE, CRASH_REGION, DIMM, FakeKernel
from tests.unit.kernel.trees import populate

HOT_ADDED_IS_NOT_KNOWN = (
    "which memory was hot-added: kexecwatchd has not recorded what was there at boot"
)


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


def look(kernel: FakeKernel) -> MemoryPicture:
    return survey(kernel.root, "x86_64")


def load(kernel: FakeKernel, flags: int) -> None:
    kernel_fd = os.open(kernel.path("boot/vmlinuz"), os.O_RDONLY)
    initrd_fd = os.open(kernel.path("boot/initrd.img"), os.O_RDONLY)
    kernel.load(kernel_fd, initrd_fd, CMDLINE, flags)
    os.close(kernel_fd)
    os.close(initrd_fd)


def note_reboot_image(kernel: FakeKernel) -> None:
    """What the daemon would have noted after its load."""
    segments = tuple(Segment(r.start, r.size) for r in kernel.segments)
    placement = Placement(segments, PlacedBy.LOG)
    record = ImageRecord(ours=True, ram=kernel.ram, online=kernel.ram, placement=placement)
    path = kernel.path("run/kexecwatchd/ledger.json")
    ledger.write(path, Ledger(boot_id="a-boot", reboot=record))


def test_a_machine_without_images(kernel: FakeKernel) -> None:
    picture = look(kernel)
    assert [(r.first, r.last, str(r.state), r.zone) for r in picture.blocks] == [
        (0, 7, "online", "Normal")
    ]
    assert [(r.start, r.end) for r in picture.ranges] == [
        ("0x1000", "0x9efff"),
        ("0x100000", "0x3fffffff"),
    ]
    assert [(r.start, r.end) for r in picture.crash_regions] == [
        (f"{CRASH_REGION.start:#x}", f"{CRASH_REGION.end - 1:#x}")
    ]
    assert (picture.crash_loaded, picture.reboot_loaded) == (False, False)
    assert (picture.elfcorehdr, picture.segments, picture.nodes) == ("", [], [])
    assert picture.notes == [HOT_ADDED_IS_NOT_KNOWN]


def test_drift_and_a_reboot_image_in_a_dimm_that_goes(kernel: FakeKernel) -> None:
    load(kernel, KEXEC_FILE_ON_CRASH)
    kernel.add_dimm(zone="Movable")
    load(kernel, 0)
    note_reboot_image(kernel)
    kernel.set_state(DIMM + 3, "offline")
    picture = look(kernel)
    assert [(r.first, r.last, str(r.state), r.zone) for r in picture.blocks][1:] == [
        (DIMM, DIMM + 2, "online", "Movable"),
        (DIMM + 3, DIMM + 3, "offline", "Movable"),
    ]
    assert picture.elfcorehdr == f"{CRASH_REGION.start:#x}"
    assert [(int(r.start, 16), int(r.end, 16) + 1) for r in picture.missing] == [
        (DIMM * BLOCK, (DIMM + 4) * BLOCK)
    ]
    (segment,) = picture.segments
    assert segment.hazards == [Hazard.OFFLINE]
    assert int(segment.end, 16) + 1 == (DIMM + 4) * BLOCK
    assert picture.notes == [HOT_ADDED_IS_NOT_KNOWN]


def test_what_came_after_boot_is_marked(kernel: FakeKernel) -> None:
    bootmemory.record(kernel.root)
    kernel.add_dimm()
    picture = look(kernel)
    assert [(r.first, r.hot_added) for r in picture.blocks] == [(0, False), (DIMM, True)]
    assert picture.notes == []


def test_nodes_are_those_of_the_blocks(kernel: FakeKernel) -> None:
    for number in range(8):
        link = kernel.path(f"sys/devices/system/node/node{number // 4}/memory{number}")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../memory/memory{number}")
    picture = look(kernel)
    assert picture.nodes == [0, 1]
    assert [(r.first, r.last, r.node) for r in picture.blocks] == [(0, 3, 0), (4, 7, 1)]


def test_a_reboot_image_of_someone_else(kernel: FakeKernel) -> None:
    kernel.load_reboot_by_someone()
    picture = look(kernel)
    assert (picture.reboot_loaded, picture.segments) == (True, [])
    assert picture.notes[0].startswith("where the reboot image lies: ")


def test_where_an_image_was_that_was_unloaded_is_not_shown(kernel: FakeKernel) -> None:
    load(kernel, 0)
    note_reboot_image(kernel)
    kernel.unload(0)
    assert look(kernel).segments == []


def test_a_crash_image_that_cannot_be_read_back(kernel: FakeKernel) -> None:
    load(kernel, KEXEC_FILE_ON_CRASH)
    kernel.path("proc/kcore").unlink()
    picture = look(kernel)
    assert (picture.crash_loaded, picture.elfcorehdr) == (True, "")
    assert picture.notes[0].startswith("what the crash image lists: ")
    assert "proc/kcore" in picture.notes[0]


def test_a_kernel_without_memory_blocks(kernel: FakeKernel) -> None:
    shutil.rmtree(kernel.path("sys/devices/system/memory"))
    picture = look(kernel)
    assert (picture.block_size, picture.blocks) == (0, [])
    assert picture.notes[0].startswith("which memory is offline or movable: ")


def test_a_ledger_that_cannot_be_used_is_said(kernel: FakeKernel) -> None:
    load(kernel, 0)
    kernel.write("run/kexecwatchd/ledger.json", "{")
    notes = look(kernel).notes
    assert any("run/kexecwatchd/ledger.json could not be used" in note for note in notes)


def test_no_look_without_the_right_to_see_addresses(kernel: FakeKernel) -> None:
    kernel.show_map(hidden=True)
    with pytest.raises(SurveyError, match=r"proc/iomem.*CAP_SYS_ADMIN"):
        look(kernel)


def test_no_look_without_a_kernel(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match=r"cannot be looked at: .*boot_id"):
        survey(tmp_path)
    populate(tmp_path, {"proc/sys/kernel/random/boot_id": "a-boot\n"})
    with pytest.raises(SurveyError, match="zoneinfo"):
        survey(tmp_path)
