# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's look without the daemon, on a machine of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kexecwatchd import bootmemory, ledger
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources.look import LOOK, Look
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_ON_CRASH
from kexecwatchd.ledger import ImageRecord, Ledger
from kexecwatchd.model import PlacedBy, Placement, Segment
from kexecwatchd.ranges import RangeSet
from tests.fake_kernel import BLOCK, CMDLINE, CRASH_REGION, DIMM, FakeKernel
from tests.unit.kernel.test_firmware_map import boot_params
from tests.unit.kernel.trees import kexec_rules, populate


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    made = FakeKernel(tmp_path)
    populate(tmp_path, {"proc/sys/kernel/arch": "x86_64\n"})
    return made


def look(kernel: FakeKernel) -> Look:
    return Host(kernel.root).ask(LOOK)


def load(kernel: FakeKernel, flags: int) -> None:
    kernel_fd = os.open(kernel.path("boot/vmlinuz"), os.O_RDONLY)
    initrd_fd = os.open(kernel.path("boot/initrd.img"), os.O_RDONLY)
    kernel.load(kernel_fd, initrd_fd, CMDLINE, flags)
    os.close(kernel_fd)
    os.close(initrd_fd)


def states(seen: Look) -> Iterator[tuple[bool, str]]:
    return ((judged.loaded, judged.state.value) for judged in seen.images)


def test_a_machine_without_images(kernel: FakeKernel) -> None:
    seen = look(kernel)
    assert list(states(seen)) == [(False, "absent"), (False, "absent")]
    assert replace(seen, images=()) == Look(
        images=(),
        reserved=CRASH_REGION.size,
        blocks=True,
        boot_known=False,
        movable=0,
        driver_managed=0,
        hot_added=0,
        offline=0,
        usable=0,
        forecast=None,
        lost=None,
        obstacle=seen.obstacle,
    )
    assert "kexec-tools" in seen.obstacle


def test_images_that_drift(kernel: FakeKernel) -> None:
    load(kernel, KEXEC_FILE_ON_CRASH)
    assert next(states(look(kernel))) == (True, "current")
    bootmemory.record(kernel.root)
    kernel.add_dimm(zone="Movable")
    load(kernel, 0)
    seen = look(kernel)
    assert list(states(seen)) == [(True, "stale"), (True, "unknown")]
    assert "did not run since" in seen.images[1].reason
    segments = tuple(Segment(r.start, r.size) for r in kernel.segments)
    record = ImageRecord(
        ours=True,
        ram=kernel.ram,
        online=kernel.ram,
        placement=Placement(segments, PlacedBy.LOG),
    )
    path = kernel.path("run/kexecwatchd/ledger.json")
    foreign = ImageRecord(ram=kernel.ram, online=kernel.ram)
    ledger.write(path, Ledger(boot_id="a-boot", reboot=foreign))
    assert "since it was first seen" in look(kernel).images[1].reason
    ledger.write(path, Ledger(boot_id="a-boot", reboot=record))
    kernel.set_state(DIMM + 3, "offline")
    seen = look(kernel)
    assert list(states(seen)) == [(True, "stale"), (True, "unsafe")]
    assert (seen.hot_added, seen.offline, seen.movable) == (4 * BLOCK, BLOCK, 3 * BLOCK)
    assert seen.usable == 4 * BLOCK, "each counts once"


def test_where_the_configured_image_would_go(kernel: FakeKernel) -> None:
    kexec_rules(kernel.root)
    files = f'kernel = "{kernel.path("boot/vmlinuz")}"\ncmdline = "quiet"\n'
    populate(kernel.root, {"etc/kexecwatchd/kexecwatchd.toml": f"[reboot]\n{files}"})
    bootmemory.record(kernel.root)
    assert look(kernel).forecast == ""
    kernel.add_dimm()
    assert "into hot-added memory" in str(look(kernel).forecast)


def test_boot_memory_that_is_gone(kernel: FakeKernel) -> None:
    kernel.add_dimm()
    bootmemory.record(kernel.root)
    assert look(kernel).lost is None, "firmware's map is not shown"
    data = boot_params([(r.start, r.size, 1) for r in kernel.ram])
    populate(kernel.root, {"sys/kernel/boot_params/data": data})
    assert look(kernel).lost == ""
    kernel.set_state(DIMM, "offline")
    seen = look(kernel)
    assert (seen.hot_added, seen.movable, seen.offline, seen.usable) == (0, 0, BLOCK, BLOCK)
    kernel.remove_dimm()
    assert "of boot memory is gone" in str(look(kernel).lost)


def test_hidden_addresses_are_no_empty_machine(kernel: FakeKernel) -> None:
    populate(kernel.root, {"proc/iomem": "00000000-00000000 : System RAM\n"})
    with pytest.raises(CannotTell, match="CAP_SYS_ADMIN"):
        look(kernel)


def test_memory_of_a_driver_is_used_by_no_loader(kernel: FakeKernel) -> None:
    bootmemory.record(kernel.root)
    kernel.driver_managed = RangeSet.of((DIMM * BLOCK, (DIMM + 4) * BLOCK))
    kernel.add_dimm(zone="Movable")
    seen = look(kernel)
    assert (seen.driver_managed, seen.movable) == (4 * BLOCK, 4 * BLOCK)
    assert (seen.hot_added, seen.usable) == (0, 0)


def test_what_the_ledger_has_of_an_image_that_is_gone_does_not_count(kernel: FakeKernel) -> None:
    """Loaded again after a failure, and then unloaded by someone else."""
    record = ImageRecord(ours=True, ram=kernel.ram, last_error="there was no room")
    path = kernel.path("run/kexecwatchd/ledger.json")
    ledger.write(path, Ledger(boot_id="a-boot", crash=record))
    assert next(states(look(kernel))) == (False, "absent")
