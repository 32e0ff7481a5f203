# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the one initramfs per kernel that serves as boot, crash and reboot initrd.

What it does is in guest/init: go on to the disk, or, when it finds itself in a capture kernel or in
a kernel with a marker on its command line, serve the agent.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from . import cpio, host
from .cache import Cache, Input
from .kernels import Kernel

GUEST = Path(__file__).resolve().parents[1] / "guest"
_SCRIPTS = ("init", "agent.sh")


def build(cache: Cache, kernel: Kernel) -> Path:
    """Return the path of the initramfs for `kernel`, from the cache or newly built."""
    scripts = [GUEST / name for name in _SCRIPTS]
    inputs: list[Input] = [
        Path(__file__),
        Path(cpio.__file__),
        host.BUSYBOX,
        *scripts,
        kernel.directory.name,
    ]

    def write(directory: Path) -> None:
        (directory / "initrd.img").write_bytes(_archive(kernel))

    return cache.artefact(f"initramfs-{kernel.name}", inputs, write) / "initrd.img"


def _archive(kernel: Kernel) -> bytes:
    archive = cpio.Archive()
    for path in ("bin", "dev", "proc", "sys", "run", "tmp", "newroot"):
        archive.directory(path)
    # Without this node the kernel gives init no standard output: devtmpfs comes only later.
    archive.char_device("dev/console", 5, 1)
    archive.file("bin/busybox", host.BUSYBOX.read_bytes(), 0o755)
    archive.symlink("bin/sh", "busybox")
    for name in _SCRIPTS:
        archive.file(name, (GUEST / name).read_bytes(), 0o755)
    for module in kernel.boot_modules:
        archive.file(f"modules/{module.name}", module.read_bytes())
    archive.file("modules/order", "".join(f"{p.name}\n" for p in kernel.boot_modules).encode())
    # Level 1: unpacking under emulation costs more than the few bytes that level 9 would save.
    return gzip.compress(archive.finish(), compresslevel=1, mtime=0)
