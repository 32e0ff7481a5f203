# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with kexecwatchd installed: its payload, its configuration, and what it says.

Every wait has a deadline that only guards against hanging; nothing here depends on how fast the
machine is.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexecwatchd.messages import LOADED
from tests.vm.lab.machine import Machine
from tests.vm.lab.report import limit

Wanted = Callable[[dict[str, Any]], bool]

ROOT = Path(__file__).resolve().parents[2]

# After the files are in place, once, before the snapshot is taken.
INSTALL = (
    "systemctl daemon-reload",
    "systemctl reload dbus",
    "udevadm control --reload",
    "journalctl --update-catalog",
    "python3 -m compileall -q /usr/lib/python3/dist-packages/kexecwatchd",
    "kexecwatchctl --version; kexecwatchd --version",
)

# A load takes seconds under emulation, so the default budget (5 %) would have most scenarios wait
# for a minute. Those that are about pacing, or measure it, ask for the defaults ("").
HASTE = "unarmed_budget = 1.0"

CRASH_CMDLINE = "console=ttyS0 reset_devices nr_cpus=1 irqpoll acpi_no_memhotplug"
REBOOT_CMDLINE = "console=ttyS0 kexecwatchd.marker=second"


def stage(directory: Path) -> Path:
    """What `make install` puts on a machine, as an archive whose bytes depend on it alone."""
    with tempfile.TemporaryDirectory() as staged:
        command = ["make", "-s", "-C", str(ROOT), "install", f"DESTDIR={staged}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        archive = directory / "kexecwatchd.tar"
        with tarfile.open(archive, "w") as tar:
            for path in sorted(Path(staged).rglob("*")):
                tar.add(path, path.relative_to(staged), recursive=False, filter=_plain)
    return archive


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    return member


@dataclass(frozen=True)
class Entry:
    """A journal entry of the daemon's own; `at` is CLOCK_MONOTONIC, in seconds."""

    at: float
    message: str
    priority: int
    fields: dict[str, Any]


class Watched:
    """The daemon in a guest, as its administrator sees it."""

    def __init__(self, vm: Machine) -> None:
        self.vm = vm

    def configure(
        self, *, crash: str = "off", reboot: str = "off", pacing: str = HASTE, more: str = ""
    ) -> None:
        """Write the configuration; `crash` and `reboot` are modes, `more` is for [reboot]."""
        tables = [_table("crash", crash, CRASH_CMDLINE), _table("reboot", reboot, REBOOT_CMDLINE)]
        tables[1] += more
        text = "\n".join([*tables, f"[pacing]\n{pacing}\n" if pacing else ""])
        self.vm.put("/etc/kexecwatchd/kexecwatchd.toml", text.encode())

    def start(self) -> None:
        """Start the service; returns when it says that it is ready."""
        self.vm.run("systemctl start kexecwatchd")

    def status(self) -> dict[str, Any]:
        """The promised JSON, straight from the bus."""
        command = (
            "busctl --json=short call org.kexecwatch1 /org/kexecwatch1 "
            "org.kexecwatch1.Manager GetStatus"
        )
        answer: dict[str, Any] = json.loads(json.loads(self.vm.run(command).text)["data"][0])
        return answer

    def image(self, name: str) -> dict[str, Any]:
        """One image's part of the status."""
        return _image(self.status(), name)

    def wait_status(
        self, wanted: Wanted, meanwhile: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Wait until the status is as wanted, calling `meanwhile` all the time; returns it."""
        deadline = time.monotonic() + limit(300)
        while not wanted(status := self.status()):
            if time.monotonic() > deadline:
                journal = "\n".join(e.message for e in self.journal())
                raise AssertionError(f"still {json.dumps(status, indent=1)}\n{journal}")
            meanwhile()
            time.sleep(1)  # each look costs the guest a process
        return status

    def wait_image(self, name: str, wanted: Wanted) -> dict[str, Any]:
        """Wait until an image's status is as wanted; returns it."""
        return _image(self.wait_status(lambda status: wanted(_image(status, name))), name)

    def wait_state(self, name: str, state: str) -> dict[str, Any]:
        """Wait until an image is in that state."""
        return self.wait_image(name, lambda image: bool(image["state"] == state))

    def wait_reloaded(self, name: str, before: dict[str, Any]) -> dict[str, Any]:
        """Wait until an image is current after at least one more load than `before` tells of."""
        return self.wait_image(
            name, lambda i: i["state"] == "current" and i["load_count"] > before["load_count"]
        )

    def verify(self) -> dict[str, Any]:
        """Have it look now; returns the whole status."""
        self.vm.run("busctl call org.kexecwatch1 /org/kexecwatch1 org.kexecwatch1.Manager Verify")
        return self.status()

    def journal(self) -> list[Entry]:
        """What the daemon itself wrote, oldest first."""
        text = self.vm.run(
            "journalctl -u kexecwatchd -t kexecwatchd -o json --no-pager", check=False
        ).text
        return [_entry(json.loads(line)) for line in text.splitlines() if line.startswith("{")]

    def loads(self, image: str) -> list[Entry]:
        """The loads that came about, as the journal tells of them: each after its handshake."""
        return [
            e
            for e in self.journal()
            if e.fields.get("MESSAGE_ID") == LOADED.id and e.fields.get("IMAGE") == image
        ]

    def header(self) -> dict[str, Any]:
        """What elfcorehdr lists, read by a program that shares no code with the daemon."""
        found: dict[str, Any] = json.loads(self.vm.run("python3 /lab/elfcorehdr.py").text)
        return found


def _image(status: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(i for i in status["images"] if i["image"] == name)
    return found


def _table(name: str, mode: str, cmdline: str) -> str:
    lines = [f"[{name}]", f'mode = "{mode}"']
    if mode != "off":
        lines += ['kernel = "/lab/vmlinuz"', 'initrd = "/lab/initrd"', f'cmdline = "{cmdline}"']
    return "\n".join(lines) + "\n"


def _entry(record: dict[str, Any]) -> Entry:
    fields = {k: v for k, v in record.items() if not k.startswith("_")}
    return Entry(
        int(record["__MONOTONIC_TIMESTAMP"]) / 1e6,
        str(record.get("MESSAGE", "")),
        int(record.get("PRIORITY", 6)),
        fields,
    )


def loaded(vm: Machine) -> list[str]:
    """Whether the kernel holds a crash image, and a reboot image: "1" or "0" each."""
    return vm.run("cat /sys/kernel/kexec_crash_loaded /sys/kernel/kexec_loaded").text.split()


def lists(loads: Sequence[dict[str, int]], start: int, end: int) -> bool:
    """True when the PT_LOADs cover all of [start, end)."""
    for low, high in sorted(_spans(loads)):
        if low <= start < high:
            start = high
    return start >= end


def touches(loads: Sequence[dict[str, int]], start: int, end: int) -> bool:
    """True when a PT_LOAD has any byte of [start, end)."""
    return any(low < end and start < high for low, high in _spans(loads))


def _spans(loads: Sequence[dict[str, int]]) -> Iterator[tuple[int, int]]:
    for load in loads:
        yield load["paddr"], load["paddr"] + load["memsz"]
