# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes files from the disk of a machine that has ended, without booting or mounting anything."""

from __future__ import annotations

from pathlib import Path

from . import host
from .machine import Machine


def extract(machine: Machine, path: str, directory: Path) -> list[Path]:
    """Copy the guest's directory `path` into `directory`; return the files, sorted.

    QEMU has ended (wait_exit), the `with` block of the machine has not.
    """
    image = directory / "disk.img"
    host.run(["qemu-img", "convert", "-O", "raw", machine.disk, image])
    # The journal is written back first; debugfs would not look into it.
    host.run(["e2fsck", "-p", image])
    host.run(["debugfs", "-R", f"rdump {path} {directory}", image])
    image.unlink()
    return sorted(p for p in (directory / Path(path).name).rglob("*") if p.is_file())
