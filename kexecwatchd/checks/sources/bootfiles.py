# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernels and initrds that this machine would load, and what is in the kernels' headers.

Named by kexecwatchd.toml; for a crash image that it does not name, by the distribution's own tool
(profiles/).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from kexecwatchd.checks.host import CONFIG_FILES, CannotTell, Host, Source
from kexecwatchd.kernel import bootimage, kexec_state
from kexecwatchd.kernel.bootimage import BadImage, BootImage
from kexecwatchd.model import ImageName

FILES = (*CONFIG_FILES, "proc/cmdline")

#: What a kernel holds, and can hold (kernel/kexec_state.py).
LOADED = ("sys/kernel/kexec_*loaded", "sys/kernel/kexec/*loaded")

#: What has_crash_image() reads.
CRASH_IMAGE = (*FILES, *LOADED)


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What one image is loaded from: absolute paths on that machine. `origin`: who says so.

    `theirs`: a distribution's tool does, and the command line is as that gives it, without what
    kexecwatchd adds.
    """

    image: ImageName
    kernel: str
    initrd: str | None
    cmdline: str
    origin: str
    theirs: bool


def chosen(host: Host) -> tuple[BootFiles, ...]:
    """The files of each image that has any, the crash image's first. Raises CannotTell."""
    found = []
    for image in ImageName:
        setup = host.config.setup if image is ImageName.CRASH else None
        if setup and setup.files is None and not setup.idle:
            raise CannotTell(f"what {setup.tool} would load is not known: {setup.obstacle}")
        files = setup.files if setup else host.config.image(image).files
        if files is not None:
            initrd = str(files.initrd) if files.initrd else None
            origin = setup.tool if setup else "kexecwatchd.toml"
            found.append(
                BootFiles(
                    image, str(files.kernel), initrd, files.cmdline, origin, setup is not None
                )
            )
    return tuple(found)


def has_crash_image(host: Host) -> bool:
    """One is loaded, or there are files to load one from. Raises CannotTell, OSError."""
    return bool(kexec_state.read(host.root).crash_loaded) or any(
        files.image is ImageName.CRASH for files in chosen(host)
    )


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
