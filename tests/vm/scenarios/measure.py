# SPDX-License-Identifier: GPL-2.0-or-later
"""Units and clocks of the scenarios: everything is told as a ratio to one bare system call."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from tests.vm.lab.machine import Machine
from tests.vm.lab.process import GuestProcess
from tests.vm.lab.report import LabTimeout, limit


def bare_load(vm: Machine, image: str, cmdline: str = "") -> float:
    """One kexec_file_load without the daemon; how many seconds it took."""
    more = f" --cmdline '{cmdline}'" if cmdline else ""
    answer = json.loads(vm.run(f"python3 /lab/bareload.py {image}{more}").text)
    assert answer["errno"] == 0, answer
    return float(answer["seconds"])


def watch_events(vm: Machine) -> GuestProcess:
    """Start noting the kernel's own memory and CPU uevents, with their monotonic times.

    Returns when it listens, which it says.
    """
    process = vm.spawn(
        "exec stdbuf -oL udevadm monitor --kernel --subsystem-match=memory --subsystem-match=cpu"
    )
    deadline = time.monotonic() + limit(300)
    while "KERNEL - " not in process.output():
        if time.monotonic() > deadline or not process.running():
            raise LabTimeout(f"{process.command!r} does not listen: {process.wait().stderr!r}")
        time.sleep(0.1)
    return process


def events(process: GuestProcess) -> list[tuple[float, str, str]]:
    """(monotonic seconds, action, device) of each event so far."""
    found = re.findall(r"^KERNEL\[([\d.]+)\] (\w+) +(\S+)", process.output(), re.MULTILINE)
    return [(float(at), action, device.rpartition("/")[2]) for at, action, device in found]


def events_ended(process: GuestProcess, action: str) -> float:
    """When the last event with that action came."""
    return max(at for at, name, _ in events(process) if name == action)


def first_json(process: GuestProcess, timeout: float = 300) -> dict[str, Any]:
    """Wait for a process's first line, which is JSON."""
    deadline = time.monotonic() + limit(timeout)
    while "\n" not in (output := process.output()) and not output.endswith("}"):
        if time.monotonic() > deadline or not process.running():
            raise LabTimeout(f"{process.command!r} said nothing: {process.wait().stderr!r}")
        time.sleep(0.2)
    answer: dict[str, Any] = json.loads(output.splitlines()[0])
    return answer
