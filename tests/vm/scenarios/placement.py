# SPDX-License-Identifier: GPL-2.0-or-later
"""Where reboot images lie and what becomes of them, told by the kernel and kexec-tools alone.

Spans are pairs of physical addresses, ends exclusive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from tests.vm.lab import LabTimeout, MachineDied
from tests.vm.lab.machine import Machine
from tests.vm.watched import REBOOT_CMDLINE

Span = tuple[int, int]
MEMORY = "/sys/devices/system/memory"


def placed_load(vm: Machine, options: str = "") -> list[Span]:
    """One kexec_file_load of a reboot image; its segments, from the kernel's log (6.8 and later).

    On x86 these are purgatory, boot parameters, kernel and initrd, in this order.
    """
    vm.run("dmesg -C")
    answer = json.loads(vm.run(f"python3 /lab/bareload.py reboot --debug {options}").text)
    assert answer["errno"] == 0, answer
    return logged_segments(vm)


def logged_segments(vm: Machine) -> list[Span]:
    """The segments of the load that the kernel's log tells of, in the kernel's order."""
    log = vm.run("dmesg").text
    found = re.findall(r"segment\[\d+\]: .*\bmem=(\w+) memsz=(\w+)", log)
    count = re.findall(r"nr_segments = (\d+)", log)
    assert count == [str(len(found))], log
    return _spans(found)


def tools_load(vm: Machine, options: str = "", more_cmdline: str = "") -> list[Span]:
    """One `kexec -c -l` (kexec_load) of a reboot image; its segments, from kexec-tools' words."""
    said = vm.run(
        "kexec -c -l /lab/vmlinuz --initrd=/lab/initrd -d "
        f"--command-line='{REBOOT_CMDLINE} {more_cmdline}' {options}"
    ).stderr.decode()
    found = re.findall(r"^segment\[\d+\]\.mem +=(.*)\nsegment\[\d+\]\.memsz = (\w+)", said, re.M)
    assert found, said
    return _spans(found)


def inside(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    """Those of the spans that have any byte of [start, end)."""
    return [(low, high) for low, high in spans if low < end and start < high]


def block_size(vm: Machine) -> int:
    """The size of a memory block, in bytes."""
    return int(vm.run(f"cat {MEMORY}/block_size_bytes").text, 16)


def blocks(vm: Machine, spans: Iterable[Span]) -> list[int]:
    """The numbers of the memory blocks that have any byte of the spans."""
    size = block_size(vm)
    return sorted({n for low, high in spans for n in range(low // size, (high - 1) // size + 1)})


def zones(vm: Machine, spans: Iterable[Span]) -> set[str]:
    """The valid_zones of the blocks that have any byte of the spans."""
    files = " ".join(f"{MEMORY}/memory{number}/valid_zones" for number in blocks(vm, spans))
    return set(vm.run(f"cat {files}").text.splitlines())


def states(vm: Machine, spans: Iterable[Span]) -> set[str]:
    """The states ("online", "offline") of the blocks that have any byte of the spans."""
    files = " ".join(f"{MEMORY}/memory{number}/state" for number in blocks(vm, spans))
    return set(vm.run(f"cat {files}").text.split())


def online_movable(vm: Machine) -> None:
    """Have what is hot-added from now on go online in ZONE_MOVABLE."""
    vm.run(f"echo online_movable >{MEMORY}/auto_online_blocks")


def ending(vm: Machine, command: str = "kexec -e", timeout: float = 300) -> str:
    """Run a command that ends the running kernel; what became of it.

    "second": the loaded image came up. "panic": a kernel came up and panicked. "restart": the
    machine was restarted as without an image. "dead": none of these, the machine is lost.
    """
    start = vm.console.position()
    vm.agent.post(command)
    words = {
        "LAB: second kernel": "second",
        "Kernel panic": "panic",
        "reboot: machine restart": "restart",
    }
    try:
        return words[vm.console.wait_for("|".join(words), start, timeout).group()]
    except (LabTimeout, MachineDied):
        assert "Starting new kernel" in vm.console.text(start)
        return "dead"


def _spans(found: Iterable[tuple[str, str]]) -> list[Span]:
    return [(int(start, 16), int(start, 16) + int(size, 16)) for start, size in found]
