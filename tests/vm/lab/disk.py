# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the guest's disk together: the root file system, every kernel, the agent and guest tools.

One disk serves all kernels: /boot/vmlinuz-RELEASE, /boot/initrd.img-RELEASE and the modules of
each are on it, and which one runs is said on QEMU's command line.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import base, host
from .cache import Cache, Input
from .initramfs import GUEST
from .kernels import Kernel
from .report import working

SIZE = "3G"
_AGENT_UNIT = "lab-agent.service"


def build(cache: Cache, kernels: Sequence[tuple[Kernel, Path]]) -> Path:
    """Return the path of the raw ext4 image that holds `kernels`, pairs of kernel and initramfs."""
    root = base.build(cache)
    inputs: list[Input] = [Path(__file__), root.parent.name, *sorted(guest_files())]
    inputs += [str(p.name) for p in sorted(guest_files())]
    for kernel, initramfs in kernels:
        inputs += [kernel.directory.name, initramfs.parent.name]

    @working("assembling the guest's disk (about 15 seconds)…")
    def assemble(directory: Path) -> None:
        with tempfile.TemporaryDirectory(dir=directory) as name:
            tree = Path(name)
            tree.chmod(0o755)
            host.run(["tar", "-C", tree, "--numeric-owner", "--xattrs", "-xpf", root])
            for kernel, initramfs in kernels:
                _install_kernel(tree, kernel, initramfs)
            install_lab(tree)
            # A raw image: sparse on the host, and a plain backing file for everything after it.
            # No journal: the disk is only ever written through throw-away overlays.
            options = ["-q", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1"]
            host.run(["mke2fs", *options, "-d", tree, directory / "disk.img", SIZE])

    return cache.artefact("disk", inputs, assemble) / "disk.img"


def guest_files() -> list[Path]:
    """The agent and the tools for guests."""
    return [p for p in GUEST.iterdir() if p.is_file()]


def _install_kernel(tree: Path, kernel: Kernel, initramfs: Path) -> None:
    shutil.copy(kernel.vmlinuz, tree / f"boot/vmlinuz-{kernel.release}")
    shutil.copy(initramfs, tree / f"boot/initrd.img-{kernel.release}")
    modules = tree / "usr/lib/modules" / kernel.release
    (modules / "kernel").mkdir(parents=True)
    for module in kernel.disk_modules:
        shutil.copy(module, modules / "kernel")
    for index in kernel.directory.glob("modules.*"):
        shutil.copy(index, modules)
    # The guest's own program: the host needs none, and the index fits the guest's kmod.
    host.run(["chroot", tree, "depmod", kernel.release])


def install_lab(tree: Path) -> None:
    """Put them into the root file system at `tree`, the agent's unit enabled."""
    lab = tree / "lab"
    lab.mkdir()
    for file in guest_files():
        shutil.copy(file, lab)
    units = tree / "etc/systemd/system"
    shutil.move(lab / _AGENT_UNIT, units)
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / _AGENT_UNIT).symlink_to(f"../{_AGENT_UNIT}")
