# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's image: what it unpacked to from its file, and what it takes in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kexecwatchd.checks.host import CannotTell, Host, Source
from kexecwatchd.kernel import bootimage, kernel_size
from kexecwatchd.kernel.bootimage import BadImage, BootImage
from kexecwatchd.kernel.kernel_size import KernelSize

# Where distributions keep it; {} is the release.
_PLACES = ("boot/vmlinuz-{}", "usr/lib/modules/{}/vmlinuz")


@dataclass(frozen=True, slots=True)
class RunningKernel:
    """`size`: what it takes. `file`: what its file's header says; x86, and complete."""

    size: KernelSize
    file: BootImage


def _look(host: Host) -> RunningKernel:
    return RunningKernel(kernel_size.read(host.root), _file(host))


def _file(host: Host) -> BootImage:
    places = [place.format(host.release) for place in _PLACES]
    for place in places:
        try:
            fd = os.open(host.path(place), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        try:
            image = bootimage.inspect(fd, host.machine)
        except BadImage as error:
            raise CannotTell(f"/{place}: {error}") from None
        finally:
            os.close(fd)
        if image.release in ("", host.release) and image.unpacked_size:
            return image
        raise CannotTell(f"/{place} is not the kernel that runs, or does not say its size")
    raise CannotTell(f"the running kernel's file is in none of /{', /'.join(places)}")


RUNNING_KERNEL: Source[RunningKernel] = Source("running-kernel", RunningKernel, _look)
