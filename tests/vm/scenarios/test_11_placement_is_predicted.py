# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 11: where a reboot image will lie is known before it is loaded.

6.12 and 7.3 log where they put it, so each forecast is compared with the log. 6.1 logs nothing, but
the next kernel says where it found itself. But for the last test the daemon's modules are asked by
themselves.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from tests.vm.lab.hotplug import Dimm
from tests.vm.lab.machine import Machine
from tests.vm.scenarios import told
from tests.vm.scenarios.conftest import ROOMY, Guest

pytestmark = pytest.mark.vm

MIB = 1 << 20
SCRIPT = Path(__file__).with_name("forecasting.py")
CMDLINE = "console=ttyS0 kexecwatchd.marker=second"
# COMMAND_LINE_SIZE without the NUL, and without the 30 bytes that the kernel keeps for elfcorehdr=.
LONGEST = "x" * (2047 - 30 - 1)

#: [start, end) of each segment, by name.
Places = dict[str, tuple[int, int]]


def forecast_and_load(vm: Machine, *options: str, initrd: str = "/lab/initrd") -> Places:
    vm.put("/run/forecasting.py", SCRIPT.read_bytes())
    more = f"--initrd {initrd}" if initrd else ""
    answer = json.loads(vm.run(f"python3 /run/forecasting.py {more} {' '.join(options)}").text)
    return {name: (mem, mem + memsz) for name, mem, memsz in answer["forecast"]}


def logged(vm: Machine) -> Places:
    """What the kernel's log says, read without the daemon's parser."""
    log = vm.run("dmesg").text
    found = re.findall(r"segment\[(\d)\]: .* mem=0x([0-9a-f]+) memsz=0x([0-9a-f]+)", log)
    order = ["purgatory", "boot parameters", "kernel", "initrd"]
    assert len(found) == int(re.findall(r"nr_segments = (\d)", log)[-1])
    assert f"Loaded purgatory at 0x{found[0][1]}" in log
    places = {order[int(n)]: (int(mem, 16), int(mem, 16) + int(size, 16)) for n, mem, size in found}
    assert len(places) == len(found)
    return places


def compare(
    vm: Machine, cmdline: str = CMDLINE, initrd: str = "/lab/initrd", options: str = ""
) -> Places:
    """Forecast, load, and read the log: the same. Returns it."""
    # The old image first: memory is short with both and a large initrd.
    vm.run("python3 /lab/bareload.py unload-reboot; dmesg -C")
    words = ("--debug", f"--cmdline '{cmdline}'", options)
    forecast = forecast_and_load(vm, *words, initrd=initrd)
    assert forecast == logged(vm)
    return forecast


def large_initrd(vm: Machine, megabytes: int) -> str:
    """All zeros, and no memory used."""
    path = f"/run/initrd-{megabytes}"
    vm.run(f"truncate -s {megabytes}M {path}")
    return path


def inside(dimm: Dimm, *places: tuple[int, int]) -> bool:
    return all(dimm.start <= start and end <= dimm.end for start, end in places)


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
def test_the_log_says_what_was_forecast(guest: Guest, kernel: str) -> None:
    with guest(kernel) as watched:
        vm = watched.vm
        compare(vm)
        compare(vm, cmdline="")
        compare(vm, cmdline=LONGEST)
        assert "initrd" not in compare(vm, initrd="")

        dimm = vm.plug_dimm("d0", "128M")
        assert inside(dimm, *compare(vm).values())
        assert inside(dimm, *compare(vm, initrd="").values())
        places = compare(vm, initrd=large_initrd(vm, 80))
        assert inside(dimm, places["kernel"])
        assert not inside(dimm, places["initrd"])

        # Next to each other, and yet nothing goes across.
        second = vm.plug_dimm("d1", "128M")
        assert second.start == dimm.end
        places = compare(vm, initrd=large_initrd(vm, 100))
        assert inside(second, places["purgatory"], places["boot parameters"], places["kernel"])
        assert places["initrd"][1] == dimm.end


class TestOnAKernelThatLogsNothing:
    """6.1: what the next kernel's boot_params and /proc/iomem say."""

    def found(self, vm: Machine) -> Places:
        """Where the next kernel was put, itself by nokaslr."""
        params = vm.get("/sys/kernel/boot_params/data")
        # ramdisk_image and ramdisk_size, cmd_line_ptr (Documentation/arch/x86/zero-page.rst).
        image, size, cmdline = (
            struct.unpack_from("<I", params, at)[0] for at in (0x218, 0x21C, 0x228)
        )
        image += struct.unpack_from("<I", params, 0xC0)[0] << 32
        cmdline += struct.unpack_from("<I", params, 0xC8)[0] << 32
        ramdisk = re.search(r"RAMDISK: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]", vm.run("dmesg").text)
        assert ramdisk
        end = int(ramdisk[2], 16) + 1
        assert (int(ramdisk[1], 16), end) == (image, -(-(image + size) // 4096) * 4096)
        code = re.search(r"([0-9a-f]+)-[0-9a-f]+ : Kernel code", vm.run("cat /proc/iomem").text)
        assert code
        # struct boot_params comes first, then the command line.
        return {
            "boot parameters": (cmdline - 4096, 0),
            "kernel": (int(code[1], 16), 0),
            "initrd": (image, end),
        }

    def compare(self, vm: Machine) -> Places:
        forecast = forecast_and_load(vm, f"--cmdline '{CMDLINE} nokaslr'")
        assert vm.kexec() == "second"
        found = self.found(vm)
        assert found["initrd"] == forecast["initrd"]
        for name in ("boot parameters", "kernel"):
            assert found[name][0] == forecast[name][0]
        return forecast

    def test_the_lowest_comes_first(self, guest: Guest) -> None:
        with guest("6.1") as watched:
            dimm = watched.vm.plug_dimm("d0", "512M")
            places = self.compare(watched.vm)
            assert not any(inside(dimm, place) for place in places.values())
            assert places["boot parameters"][1] < MIB
            assert places["kernel"][1] < 1 << 30

    def test_the_kernel_does_not_fit_into_the_lowest(self, guest: Guest) -> None:
        """A hole splits low memory: the part below takes the initrd, the kernel goes above."""
        with guest("6.1", cmdline="memmap=16M$48M") as watched:
            places = self.compare(watched.vm)
            assert places["initrd"][1] <= 48 * MIB
            assert places["kernel"][0] >= 64 * MIB


def test_the_forecast_is_for_a_load_that_leaves_cma_alone(guest: Guest) -> None:
    """7.3 with CMA: without the flag the kernel puts what it can there."""
    with guest("7.3", cmdline="cma=192M", memory=ROOMY) as watched:
        vm = watched.vm
        dimm = vm.plug_dimm("d0", "512M")
        assert inside(dimm, *compare(vm, options="--no-cma").values())
        vm.run("dmesg -C; python3 /lab/bareload.py reboot --debug")
        assert not inside(dimm, logged(vm)["kernel"])


def test_the_daemon_judges_by_it_where_nothing_is_logged(guest: Guest) -> None:
    """6.1: other memory may go; without a prediction any that went would count as the image's."""
    with guest("6.1", memory=ROOMY) as watched:
        vm = watched.vm
        watched.configure(reboot="ensure")
        watched.start()
        found = watched.wait_state("reboot", "current")
        assert found["proof"] == "prediction"
        dimm = vm.plug_dimm("d0", "512M")
        vm.unplug_dimm("d0")
        watched.verify()
        after = watched.image("reboot")
        assert (after["state"], after["load_count"]) == ("current", found["load_count"])
        assert told.outside(told.segments(watched), dimm)
        assert vm.kexec() == "second"
