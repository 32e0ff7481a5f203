# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots a guest, installs what is to be tested, and saves the running machine for reuse.

A snapshot is a directory with the disk (an overlay over the lab's disk), the payload and the
machine's state as a migration stream. It is read-only: any number of machines can start from it.
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

# Read once before the state is saved, so that no restored guest waits for its (emulated) disk.
_WARM = """cat /lab/vmlinuz /lab/initrd /usr/lib/modules/$(uname -r)/modules.* >/dev/null
python3 -c 'import asyncio, ctypes, dbus_fast.aio, json, pydantic, pyudev, sdnotify, systemd.daemon
import systemd.journal, tomllib'
kexec --version; udevadm --version; busctl --version"""


def boot(
    spec: Spec, disk: Path, payload: Path, commands: Sequence[str], directory: Path
) -> Machine:
    """Boot over `disk`, untar `payload` to /, run `commands`, and return the settled guest."""
    machine = Machine(spec, disk, payload, directory)
    try:
        machine.agent.wait_ready("system", 600)
        # Non-zero for "degraded", which a failed unit of no interest is enough for.
        machine.run("systemctl is-system-running --wait", check=False, timeout=600)
        if payload.stat().st_size:
            machine.run("tar -C / -xf /dev/vdb")
        for command in commands:
            machine.run(command)
        return machine
    except BaseException as error:
        machine.__exit__(type(error), error, None)
        raise


def save(spec: Spec, disk: Path, payload: Path, commands: Sequence[str], directory: Path) -> None:
    """Fill `directory` with a snapshot; the arguments are those of boot()."""
    shutil.copy(payload, directory / "payload")
    # Relative, so that the cache can be moved as a whole.
    overlay(directory / "disk.qcow2", os.path.relpath(disk, directory), "raw")
    private = private_directory()
    with boot(spec, directory / "disk.qcow2", directory / "payload", commands, private) as machine:
        machine.run(_WARM)
        machine.run("sync; systemctl is-system-running --wait", check=False)
        machine.qmp.command("stop")
        _migrate(machine, f"exec:cat >{shlex.quote(str(directory / 'state'))}")


def restore(spec: Spec, snapshot: Path) -> Machine:
    """Start a machine from a snapshot; the guest runs on from where it was saved."""
    directory = private_directory()
    overlay(directory / "disk.qcow2", str(snapshot / "disk.qcow2"), "qcow2")
    machine = Machine(spec, directory / "disk.qcow2", snapshot / "payload", directory, True)
    try:
        uri = f"exec:cat {shlex.quote(str(snapshot / 'state'))}"
        machine.qmp.command("migrate-incoming", uri=uri)
        _wait_migrated(machine)
        machine.qmp.command("cont")
        machine.agent.resume("system")
        machine.run("true")
        return machine
    except BaseException as error:
        machine.__exit__(type(error), error, None)
        raise


def fresh(spec: Spec, disk: Path, payload: Path, commands: Sequence[str]) -> Machine:
    """Boot a machine that is thrown away afterwards."""
    directory = private_directory()
    overlay(directory / "disk.qcow2", str(disk), "raw")
    return boot(spec, directory / "disk.qcow2", payload, commands, directory)


def _migrate(machine: Machine, uri: str) -> None:
    # The default limit is that of a network.
    machine.qmp.command("migrate-set-parameters", max_bandwidth=1 << 40)
    machine.qmp.command("migrate", uri=uri)
    _wait_migrated(machine)


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
