# SPDX-License-Identifier: GPL-2.0-or-later
"""Could a reboot image get into memory that can go away?"""

from __future__ import annotations

from typing import Any

from kexecwatchd.checks.check import Answer

from .looks import look
from .machines import Case

GIB = 1 << 30
RUNNING = {"sys/fs/cgroup/system.slice/kexecwatchd.service/cgroup.procs": "701\n"}
HIT = "36 MiB of it into hot-added memory, which can be removed again"
HOT_ADDED: dict[str, Any] = {"hot_added": GIB, "usable": GIB, "forecast": HIT}


def configured(mode: str = "follow", more: str = "") -> dict[str, str]:
    """And it runs."""
    table = f'[reboot]\nmode = "{mode}"\nkernel = "/boot/vmlinuz"\ncmdline = "quiet"\n{more}'
    return {**RUNNING, "etc/kexecwatchd/kexecwatchd.toml": table}


CASES = (
    Case("memory as it was at boot", Answer.OK, "is there to stay", asks=look()),
    Case(
        "virtio-mem only",
        Answer.OK,
        "4 GiB belong to a driver",
        asks=look(driver_managed=4 * GIB),
    ),
    Case(
        "the image would go below the DIMM (6.1)",
        Answer.OK,
        "would not go there",
        configured(),
        look(hot_added=GIB, usable=GIB, forecast=""),
    ),
    Case(
        "kexecwatchd puts it elsewhere",
        Answer.OK,
        "but kexecwatchd puts it elsewhere",
        configured(),
        look(**HOT_ADDED),
    ),
    Case(
        "nobody looks after reboot images",
        Answer.WARNING,
        "yes: 1 GiB can go away or are offline, and an image may land there",
        asks=look(movable=GIB, usable=GIB),
    ),
    Case(
        "kexecwatchd is told to look only",
        Answer.WARNING,
        f"and the kernel would put {HIT}",
        configured("observe"),
        look(**HOT_ADDED),
    ),
    Case(
        "kexecwatchd is configured, but does not run",
        Answer.WARNING,
        f"and the kernel would put {HIT}",
        {**configured(), **dict.fromkeys(RUNNING)},
        look(**HOT_ADDED),
    ),
    Case(
        "no kexec-tools",
        Answer.WARNING,
        "and it is not loaded there by kexecwatchd",
        configured(),
        look(**HOT_ADDED, obstacle="kexec-tools are not installed"),
    ),
    Case(
        "no kexec-tools, guarded",
        Answer.WARNING,
        "and it would be unloaded when it does",
        configured(more='when_unsafe = "guard"\n'),
        look(**HOT_ADDED, obstacle="kexec-tools are not installed"),
    ),
    Case(
        "the memory of boot was not recorded",
        Answer.CANNOT_TELL,
        "kexecwatchd-boot-memory.service did not run",
        asks=look(boot_known=False),
    ),
    Case(
        "no memory hotplug",
        Answer.NOT_APPLICABLE,
        "no memory hotplug",
        asks=look(blocks=False),
    ),
)
