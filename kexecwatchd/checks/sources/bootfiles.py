# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernels and initrds that this machine would load, and what is in the kernels' headers.

Named by kexecwatchd.toml; for a crash image that it does not name, by the place where the
distribution's own tool keeps it, or for kdump-tools by what its file says.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from kexecwatchd.checks.host import CONFIG_FILES, CannotTell, Host, Source
from kexecwatchd.checks.sources import shellvars
from kexecwatchd.checks.sources.shellvars import NotPlain
from kexecwatchd.kernel import bootimage, crashkernel, kexec_state
from kexecwatchd.kernel.bootimage import BadImage, BootImage
from kexecwatchd.model import ImageName

_DEBIANS = "kdump-tools"
# What tells a distribution's tool, and where it keeps kernel and initrd; {} is the release.
_DISTRIBUTIONS = (
    (_DEBIANS, "etc/default/kdump-tools", "/var/lib/kdump/vmlinuz",
     "/var/lib/kdump/initrd.img"),
    ("kdump-utils", "etc/kdump.conf", "/boot/vmlinuz-{}", "/boot/initramfs-{}kdump.img"),
    ("SUSE's kdump", "etc/sysconfig/kdump", "/var/lib/kdump/kernel", "/var/lib/kdump/initrd"),
)  # fmt: skip

FILES = (
    *CONFIG_FILES,
    *(marker for _, marker, _, _ in _DISTRIBUTIONS),
    "proc/cmdline",
)

#: What a kernel holds, and can hold (kernel/kexec_state.py).
LOADED = ("sys/kernel/kexec_*loaded", "sys/kernel/kexec/*loaded")

#: What has_crash_image() reads.
CRASH_IMAGE = (*FILES, *LOADED)


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What one image is loaded from: absolute paths on that machine. `cmdline`: None where only a
    distribution's tool knows it. `origin`: who says so."""

    image: ImageName
    kernel: str
    initrd: str | None
    cmdline: str | None
    origin: str


def chosen(host: Host) -> tuple[BootFiles, ...]:
    """The files of each image that has any, the crash image's first. Raises CannotTell."""
    found = []
    for image in ImageName:
        files = host.config.image(image).files if host.config else None
        if files is not None:
            initrd = str(files.initrd) if files.initrd else None
            found.append(
                BootFiles(image, str(files.kernel), initrd, files.cmdline, "kexecwatchd.toml")
            )
        elif image is ImageName.CRASH and (theirs := _distributions(host)):
            found.append(theirs)
    return tuple(found)


def has_crash_image(host: Host) -> bool:
    """One is loaded, or there are files to load one from. Raises CannotTell, OSError."""
    return bool(kexec_state.read(host.root).crash_loaded) or any(
        files.image is ImageName.CRASH for files in chosen(host)
    )


def _distributions(host: Host) -> BootFiles | None:
    """Of a tool that is in use: without crashkernel= it loads nothing."""
    if not crashkernel.asked(host.cmdline):
        return None
    for tool, marker, kernel, initrd in _DISTRIBUTIONS:
        if host.path(marker).exists():
            files = BootFiles(
                ImageName.CRASH,
                kernel=kernel.format(host.release),
                initrd=initrd.format(host.release),
                cmdline=None,
                origin=tool,
            )
            return _debians(files, host.path(marker)) if tool == _DEBIANS else files
    return None


def _debians(files: BootFiles, path: Path) -> BootFiles | None:
    """Those that /etc/default/kdump-tools names, if it does; None where it is switched off:
    kdump-tools(5)."""
    variables = shellvars.parse(path.read_text(encoding="utf-8", errors="replace"))
    try:
        if shellvars.value(variables, "USE_KDUMP", "1") == "0":
            return None
        kernel, initrd = (shellvars.value(variables, f"KDUMP_{n}") for n in ("KERNEL", "INITRD"))
    except NotPlain as error:
        raise CannotTell(f"/etc/default/kdump-tools: {error}") from None
    return replace(files, kernel=kernel, initrd=initrd or None) if kernel else files


def _look(host: Host) -> dict[str, BootImage | str]:
    kernels: dict[str, BootImage | str] = {}
    for files in chosen(host):
        try:
            fd = os.open(host.path(files.kernel), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            kernels[files.kernel] = f"cannot be opened: {error.strerror}"
            continue
        try:
            kernels[files.kernel] = bootimage.inspect(fd, host.machine)
        except BadImage as error:
            kernels[files.kernel] = str(error)
        finally:
            os.close(fd)
    return kernels


KERNELS: Source[dict[str, BootImage | str]] = Source("kernels", dict[str, BootImage | str], _look)
"""By path, each kernel of chosen(), or in words why the kernel would not take it."""
