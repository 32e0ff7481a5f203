# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots guests, installs what is to be tested, and saves the running machine for reuse.

A snapshot is a directory with the disk (an overlay over the disk that it was made from), the
payload and the machine's state as a migration stream. It is read-only: any number of machines can
start from it. There are two layers: a booted guest, and over it that guest with a payload
installed, so that a new payload costs seconds and no boot.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from .machine import Machine, overlay, private_directory
from .report import LabError, LabTimeout, limit
from .spec import Spec

#: The payload's disk has this many bytes whatever is on it: a guest learns the size when it boots.
_PAYLOAD_SIZE = 256 << 20

#: For guests of the lab's own disk: read once before the state is saved, so that no restored guest
#: waits for its (emulated) disk.
WARM = """cat /lab/vmlinuz /lab/initrd /usr/lib/modules/$(uname -r)/modules.* >/dev/null
python3 -c 'import asyncio, ctypes, dbus_fast.aio, json, prometheus_client, pydantic, pyudev
import sdnotify, systemd.daemon, systemd.journal, tomllib'
kexec --version; udevadm --version; busctl --version"""

#: For a stock Debian, where something will be installed.
STOCK_WARM = "apt-cache policy >/dev/null; python3 -c 'import asyncio, json'; kexec --version"

_SETTLE = "systemctl is-system-running --wait"


def save_booted(spec: Spec, disk: Path, warm: str, directory: Path) -> None:
    """Boot over `disk`, a raw image, and fill `directory` with a snapshot of the settled guest.

    `warm` is a command that reads what most guests will need.
    """
    _make_payload(directory / "payload", None)
    # Relative, so that the cache can be moved as a whole.
    overlay(directory / "disk.qcow2", os.path.relpath(disk, directory), "raw")
    with _boot(spec, directory, private_directory()) as machine:
        machine.run(warm)
        _save(machine, directory)


def save_installed(
    spec: Spec, booted: Path, payload: Path | None, commands: Sequence[str], directory: Path
) -> None:
    """Install over a snapshot and fill `directory` with another one."""
    _make_payload(directory / "payload", payload)
    overlay(directory / "disk.qcow2", os.path.relpath(booted / "disk.qcow2", directory), "qcow2")
    with _resume(spec, booted, directory, private_directory()) as machine:
        _install(machine, payload, commands)
        _save(machine, directory)


def restore(spec: Spec, snapshot: Path) -> Machine:
    """Start a machine from a snapshot; the guest runs on from where it was saved."""
    directory = private_directory()
    (directory / "payload").symlink_to(snapshot / "payload")
    overlay(directory / "disk.qcow2", str(snapshot / "disk.qcow2"), "qcow2")
    return _resume(spec, snapshot, directory, directory)


def fresh(spec: Spec, disk: Path, payload: Path | None, commands: Sequence[str]) -> Machine:
    """Boot a machine that is thrown away afterwards."""
    directory = private_directory()
    _make_payload(directory / "payload", payload)
    overlay(directory / "disk.qcow2", str(disk), "raw")
    machine = _boot(spec, directory, directory)
    with machine.closed_on_error():
        _install(machine, payload, commands)
    return machine


def _boot(spec: Spec, files: Path, private: Path) -> Machine:
    """A booted guest that uses the disk and the payload in `files`."""
    machine = Machine(spec, files / "disk.qcow2", files / "payload", private)
    with machine.closed_on_error():
        machine.agent.wait_ready("system", 600)
        # Non-zero for "degraded", which a failed unit of no interest is enough for.
        machine.run(_SETTLE, check=False, timeout=600)
    return machine


def _resume(spec: Spec, snapshot: Path, files: Path, private: Path) -> Machine:
    """A guest with the state of `snapshot` that uses the disk and the payload in `files`."""
    machine = Machine(spec, files / "disk.qcow2", files / "payload", private, incoming=True)
    with machine.closed_on_error():
        uri = f"exec:cat {shlex.quote(str(snapshot / 'state'))}"
        machine.qmp.command("migrate-incoming", uri=uri)
        _wait_migrated(machine)
        machine.qmp.command("cont")
        machine.agent.resume("system")
        machine.run("true")
    return machine


def _install(machine: Machine, payload: Path | None, commands: Sequence[str]) -> None:
    if payload is not None:
        # Past the page cache, which may know the disk from when it was empty.
        machine.run("dd if=/dev/vdb iflag=direct bs=1M status=none | tar -C / -xf -")
    for command in commands:
        machine.run(command)


def _save(machine: Machine, directory: Path) -> None:
    machine.run(f"sync; {_SETTLE}", check=False)
    machine.qmp.command("stop")
    # The default limit is that of a network.
    machine.qmp.command("migrate-set-parameters", max_bandwidth=1 << 40)
    machine.qmp.command("migrate", uri=f"exec:cat >{shlex.quote(str(directory / 'state'))}")
    _wait_migrated(machine)


def _make_payload(target: Path, payload: Path | None) -> None:
    if payload is not None:
        shutil.copy(payload, target)
    target.touch()
    if target.stat().st_size > _PAYLOAD_SIZE:
        raise LabError(f"{payload} is larger than the payload's disk, {_PAYLOAD_SIZE} bytes")
    os.truncate(target, _PAYLOAD_SIZE)


def _wait_migrated(machine: Machine) -> None:
    deadline = time.monotonic() + limit(300)
    while True:
        status = machine.qmp.command("query-migrate")
        match status.get("status"):
            case "completed":
                return
            case "failed" | "cancelled":
                raise LabError(f"QEMU could not move the machine's state: {status}")
        if time.monotonic() > deadline:
            raise LabTimeout(f"moving the machine's state does not end: {status}")
        time.sleep(0.02)
