# SPDX-License-Identifier: GPL-2.0-or-later
"""make demo: a real machine gains and loses memory, panics, and its dump has what it should have.

Everything printed comes from the guest as it happens: the kernel's uevents, the daemon's journal,
the screens that an administrator would read.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.vm.lab import Lab
from tests.vm.lab.hotplug import Dimm
from tests.vm.lab.machine import Machine
from tests.vm.lab.process import GuestProcess
from tests.vm.scenarios.measure import bare_load, first_json
from tests.vm.scenarios.test_1_dump_has_hot_added_memory import online
from tests.vm.watched import INSTALL, Watched, stage

KERNEL = "6.1"
SIZE = "512M"

_COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
_WHO = {"lab": "35", "kernel": "36", "daemon": "33", "proof": "1;32"}


def say(who: str, text: str) -> None:
    """One line, with who says it in front."""
    name = f"{who:>6}"
    print(f"\033[{_WHO[who]}m{name}\033[0m | {text}" if _COLOUR else f"{name} | {text}", flush=True)


def chapter(text: str) -> None:
    print(f"\n\033[1m== {text}\033[0m" if _COLOUR else f"\n== {text}", flush=True)


def screen(vm: Machine, command: str) -> None:
    """Run a command in the guest and show what it prints."""
    print(f"\n  # {command}")
    for line in vm.run(command, check=False).text.splitlines():
        print(f"  {line}")
    print(flush=True)


class Feed:
    """Prints the kernel's memory uevents and the daemon's journal, merged by their clock."""

    def __init__(self, watched: Watched) -> None:
        vm = watched.vm
        self._watched = watched
        self._journal = vm.spawn("exec journalctl -f -n 0 -o json -t kexecwatchd")
        self._events = vm.spawn("exec stdbuf -oL udevadm monitor --kernel --subsystem-match=memory")
        self._said: set[tuple[float, str, str]] = set()
        self._start = float(vm.run("cut -d' ' -f1 /proc/uptime").text)

    def show(self) -> None:
        """Print what came since the last call."""
        lines = {*_events(self._events), *_entries(self._journal)} - self._said
        for at, who, text in sorted(lines):
            say(who, f"{at - self._start:7.2f} s  {text}")
        self._said |= lines

    def until_loaded(self, loads: int) -> int:
        """Go on printing until the crash image is current after more than so many loads.

        Returns how many they are.
        """

        def done(status: dict[str, Any]) -> bool:
            crash = status["images"][0]
            return bool(crash["state"] == "current" and crash["load_count"] > loads)

        status = self._watched.wait_status(done, meanwhile=self.show)
        self.show()
        return int(status["images"][0]["load_count"])


def _events(process: GuestProcess) -> list[tuple[float, str, str]]:
    found = re.findall(
        r"^KERNEL\[([\d.]+)\] (\w+) +\S*/(memory\d+) ", process.output(), re.MULTILINE
    )
    return [(float(at), "kernel", f"uevent: {action} {block}") for at, action, block in found]


def _entries(process: GuestProcess) -> list[tuple[float, str, str]]:
    records = [json.loads(line) for line in process.output().splitlines() if line.endswith("}")]
    return [
        (int(r["__MONOTONIC_TIMESTAMP"]) / 1e6, "daemon", r["MESSAGE"])
        for r in records
        if r.get("IMAGE") != "reboot"  # its mode is off
    ]


def plant(vm: Machine, dimm: Dimm) -> tuple[int, bytes]:
    """Have a process write a secret into a page of the DIMM."""
    found = first_json(vm.spawn(f"python3 /lab/pattern.py {dimm.start:#x} {dimm.end:#x}"))
    say("lab", f"a process holds a secret page at {found['address']:#x}, inside the new memory")
    return found["address"], bytes.fromhex(found["pattern"])


def crash(vm: Machine, address: int, pattern: bytes) -> bool:
    """Panic; whether the capture kernel finds the secret."""
    say("lab", "echo c >/proc/sysrq-trigger")
    capture = vm.panic()
    say("kernel", f"panic; the capture kernel is up: {capture.run('uname -r').text}")
    for load in capture.elf():
        say("kernel", f"the dump has {load.start:#x}-{load.end - 1:#x}")
    return capture.read_phys(address, len(pattern)) == pattern


def with_the_daemon(watched: Watched) -> bool:
    vm = watched.vm
    chapter(f"Linux {vm.run('uname -r').text}: start kexecwatchd")
    watched.configure(crash="ensure")
    feed = Feed(watched)
    watched.start()
    loads = feed.until_loaded(0)
    screen(vm, "kexecwatchctl status")

    chapter(f"Hot-add {SIZE}")
    vm.plug_dimm("d0", SIZE)
    loads = feed.until_loaded(loads)
    screen(vm, "kexecwatchctl status")

    chapter(f"Hot-remove {SIZE}")
    vm.unplug_dimm("d0")
    loads = feed.until_loaded(loads)

    chapter(f"Hot-add {SIZE} again, use it, and panic")
    dimm = vm.plug_dimm("d1", SIZE)
    online(vm)
    feed.until_loaded(loads)
    screen(vm, "kexecwatchctl status")
    return crash(vm, *plant(vm, dimm))


def without_it(vm: Machine) -> bool:
    chapter("The same without kexecwatchd")
    bare_load(vm, "crash")
    dimm = vm.plug_dimm("d0", SIZE)
    online(vm)
    return crash(vm, *plant(vm, dimm))


def main() -> int:
    chapter("Prepare the lab (the first time takes some minutes, then seconds)")
    lab = Lab()
    with tempfile.TemporaryDirectory() as directory:
        payload = stage(Path(directory))
        with lab.machine(KERNEL, payload=payload, install=INSTALL) as vm:
            found = with_the_daemon(Watched(vm))
        with lab.machine(KERNEL) as vm:
            lost = not without_it(vm)
    chapter("What is proven")
    say(
        "proof", f"with kexecwatchd the hot-added memory is in the dump: {'yes' if found else 'NO'}"
    )
    say("proof", f"without it, it is lost: {'yes' if lost else 'NO'}")
    return 0 if found and lost else 1


if __name__ == "__main__":
    sys.exit(main())
