# SPDX-License-Identifier: GPL-2.0-or-later
"""Booted kernels to test on: Debian in QEMU, with memory and CPUs to plug, crash and kexec.

with Lab().machine("6.12") as vm:
    vm.plug_dimm("d0", "512M")
    print(vm.run("cat /proc/iomem").text)
"""

from .agent import Result
from .capture import Capture, Load
from .hotplug import Dimm, HotplugRefused, VirtioMem
from .lab import Lab
from .machine import Machine
from .process import GuestProcess
from .qmp import Event, QmpRefused
from .report import (
    CommandFailed,
    LabError,
    LabTimeout,
    LabUnavailable,
    MachineDied,
    progress,
)

__all__ = [
    "Capture",
    "CommandFailed",
    "Dimm",
    "Event",
    "GuestProcess",
    "HotplugRefused",
    "Lab",
    "LabError",
    "LabTimeout",
    "LabUnavailable",
    "Load",
    "Machine",
    "MachineDied",
    "QmpRefused",
    "Result",
    "VirtioMem",
    "progress",
]
