# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 14, Linux 6.12: memory that comes and goes through virtio-mem."""

from __future__ import annotations

import time

import pytest

from tests.vm.lab.hotplug import VirtioMem
from tests.vm.lab.machine import Machine
from tests.vm.lab.report import limit
from tests.vm.scenarios import told
from tests.vm.scenarios.conftest import ROOMY, Figures, Guest
from tests.vm.scenarios.measure import bare_load, first_json
from tests.vm.scenarios.placement import (
    MEMORY,
    block_size,
    blocks,
    inside,
    placed_load,
    states,
    tools_load,
)
from tests.vm.watched import Watched, lists, touches

pytestmark = pytest.mark.vm

GROWN = 512 << 20


def resize(vm: Machine, device: VirtioMem, size: int) -> None:
    """Grow or shrink it, and wait until /proc/iomem has that."""
    vm.resize_virtio_mem(device.id, size)
    line = f"{device.start:x}-{device.start + size - 1:x} : System RAM (virtio_mem)"
    deadline = time.monotonic() + limit(300)
    while True:
        iomem = vm.run("cat /proc/iomem").text
        if line in iomem if size else "virtio_mem" not in iomem:
            return
        assert time.monotonic() < deadline, iomem
        time.sleep(0.2)


def grown(vm: Machine) -> VirtioMem:
    """A device of 1 GiB that has given 512 MiB, all of it online."""
    device = vm.plug_virtio_mem("v0", "1G")
    resize(vm, device, GROWN)
    span = [(device.start, device.start + GROWN)]
    for number in blocks(vm, span):
        state = f"{MEMORY}/memory{number}/state"
        # 6.1 leaves it to user space; elsewhere the kernel may not be done yet.
        vm.run(
            f"[ $(cat {state}) = online ] || echo online >{state} || [ $(cat {state}) = online ]"
        )
    assert states(vm, span) == {"online"}
    return device


def listed(watched: Watched, device: VirtioMem, size: int) -> bool:
    return lists(watched.header()["loads"], device.start, device.start + size)


def test_in_the_dump_and_never_a_target(guest: Guest, figures: Figures) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        watched.configure(crash="ensure", reboot="ensure")
        watched.start()
        crash = watched.wait_state("crash", "current")
        first = watched.wait_state("reboot", "current")
        device = grown(vm)
        watched.verify()
        watched.wait_state("crash", "current")
        assert listed(watched, device, GROWN)
        # It is the highest memory, and online; a new load goes elsewhere all the same.
        manager = "org.kexecwatch1 /org/kexecwatch1 org.kexecwatch1.Manager"
        vm.run(f"busctl call {manager} Reload s reboot")
        again = watched.wait_reloaded("reboot", first)
        told_of = told.details(watched)
        assert (told_of["placed_by"], told_of["prediction"]) == ("log", "agrees")
        placed = told.segments(watched)
        assert inside(placed, device.start, device.end) == []
        figures(
            placement_ended=f"kexec_file_load: {told.extent(placed)},"
            f" virtio-mem at {device.start:#x}"
        )
        resize(vm, device, 0)
        watched.wait_reloaded("crash", crash)
        assert not touches(watched.header()["loads"], device.start, device.end)
        reboot = watched.image("reboot")
        assert (reboot["state"], reboot["load_count"]) == ("current", again["load_count"])


def test_a_page_of_it_is_found_in_the_dump(guest: Guest) -> None:
    with guest("6.1", memory=ROOMY) as watched:
        vm = watched.vm
        watched.configure(crash="ensure")
        watched.start()
        before = watched.wait_state("crash", "current")
        device = grown(vm)
        watched.wait_reloaded("crash", before)
        watched.wait_image("crash", lambda i: i["state"] == "current" and not i["next_step"])
        assert listed(watched, device, GROWN)
        end = device.start + GROWN
        found = first_json(vm.spawn(f"python3 /lab/pattern.py {device.start:#x} {end:#x}"))
        pattern = bytes.fromhex(found["pattern"])
        assert vm.panic().read_phys(found["address"], len(pattern)) == pattern


def test_control_the_kernels_own_update_leaves_the_last_block(bare: Guest) -> None:
    with bare("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        device = grown(vm)
        assert listed(watched, device, GROWN)
        resize(vm, device, 0)
        block = block_size(vm)
        assert listed(watched, device, block), "a dump would read memory that is gone"
        assert not touches(watched.header()["loads"], device.start + block, device.end)
        assert vm.run(f"cat {MEMORY}/crash_hotplug").text == "1"


def test_control_on_an_older_kernel_it_is_missing_from_the_dump(bare: Guest) -> None:
    with bare("6.1", memory=ROOMY) as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        device = grown(vm)
        assert not touches(watched.header()["loads"], device.start, device.end)
        end = device.start + GROWN
        found = first_json(vm.spawn(f"python3 /lab/pattern.py {device.start:#x} {end:#x}"))
        assert vm.panic().read_phys(found["address"], 4096) is None


def test_control_no_reboot_image_lies_in_it(bare: Guest) -> None:
    """The kernel leaves out what a driver manages; kexec-tools do not know of it."""
    with bare("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        device = grown(vm)
        assert inside(placed_load(vm), device.start, device.end) == []
        assert inside(tools_load(vm), device.start, device.end) == []
