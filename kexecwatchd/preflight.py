# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that can be known about a load before the call.

For a crash image the kernel drops the old one before it reads the new files, so a load that is
bound to fail costs the machine the image that it had. Whatever the kernel would refuse is
refused here first, and so is what it would take without a word: a truncated initrd, a file that
others may write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kexecwatchd import trusted
from kexecwatchd.kernel import bootimage, ima, initrd, kconfig, kexec_file, kexec_state, lease
from kexecwatchd.kernel.bootimage import ELFCOREHDR_STRING, FOUR_LEVEL_END, BootImage
from kexecwatchd.model import ImageFiles, ImageName, Observation
from kexecwatchd.ranges import RangeSet
from kexecwatchd.sizes import human
from kexecwatchd.trusted import Untrusted


class Refused(Exception):
    """These files are not to be loaded; the message is a sentence for people."""


class RefusedForNow(Refused):
    """That can pass without any change to the files."""


# Answers of the kernel that say nothing about the files.
_PASSING = (errno.ENOMEM, errno.EINTR, errno.ETXTBSY)


@dataclass(frozen=True, slots=True)
class Files:
    """An open kernel and initrd. Signatures name the exact state of each file; the kernel must be
    loaded to a multiple of `kernel_alignment` bytes."""

    kernel_fd: int
    initrd_fd: int | None
    kernel_signature: str
    initrd_signature: str
    kernel_alignment: int = 1


@contextlib.contextmanager
def checked(paths: ImageFiles, image: ImageName, seen: Observation, root: Path) -> Iterator[Files]:
    """Open and check a pair of files; raises Refused."""
    with contextlib.ExitStack() as stack:
        kernel_fd, kernel_signature = _open(paths.kernel, stack)
        try:
            boot = bootimage.inspect(kernel_fd, platform.machine())
        except (bootimage.BadImage, OSError) as error:
            raise Refused(f"{paths.kernel}: {error}") from error
        try:
            _check_kernel(paths, boot, root)
            if kexec_state.la57(root):
                _check_paging(paths, image, boot, seen)
        except (OSError, ValueError) as error:
            raise RefusedForNow(f"the machine's state cannot be read: {error}") from error
        initrd_fd, initrd_signature = None, ""
        if paths.initrd is not None:
            initrd_fd, initrd_signature = _open(paths.initrd, stack)
            try:
                initrd.check(initrd_fd)
            except (initrd.BadInitrd, OSError) as error:
                raise Refused(f"{paths.initrd}: {error}") from error
        if image is ImageName.CRASH:
            _check_room(boot, initrd_fd, seen)
        # Where nothing may be loaded, or each try counts, its answer would be about that.
        if not seen.load_disabled and seen.limit_reboot < 0:
            _check_signature(paths.kernel, kernel_fd, root, image)
        yield Files(kernel_fd, initrd_fd, kernel_signature, initrd_signature, boot.alignment or 1)


def _open(path: Path, stack: contextlib.ExitStack) -> tuple[int, str]:
    """An open file that may be loaded, and its signature."""
    try:
        fd = trusted.open_file(path)
    except Untrusted as error:
        raise Refused(str(error)) from error
    stack.callback(os.close, fd)
    if not os.fstat(fd).st_size:
        raise Refused(f"{path} is empty")
    if lease.open_for_writing(fd):
        # ETXTBSY, which comes after the old image is gone.
        raise RefusedForNow(f"{path} is being written: somebody has it open for writing")
    return fd, signature(fd)


def signature(fd: int) -> str:
    """Names the state of an open file: it changes whenever the file does."""
    status = os.fstat(fd)
    parts = (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    return ":".join(str(part) for part in parts)


def _check_kernel(paths: ImageFiles, boot: BootImage, root: Path) -> None:
    length = len(os.fsencode(paths.cmdline)) + 1
    if boot.cmdline_size is not None and length + ELFCOREHDR_STRING > boot.cmdline_size:
        raise Refused(
            f"the command line takes {length} bytes, {paths.kernel} accepts"
            f" {boot.cmdline_size - ELFCOREHDR_STRING}"
        )
    lockdown = kexec_state.lockdown(root)
    # IMA's word is as good as a signature there (kimage_validate_signature()).
    if lockdown not in ("", "none") and not boot.signed and not ima.refuses_kexec_load(root):
        raise Refused(f"lockdown={lockdown} is on and {paths.kernel} bears no signature")


def _check_signature(path: Path, kernel_fd: int, root: Path, image: ImageName) -> None:
    """Only the kernel itself can tell whether it has the key; asked where it insists on one."""
    try:
        lockdown = kexec_state.lockdown(root)
    except OSError as error:
        raise RefusedForNow(f"the machine's state cannot be read: {error}") from error
    locked = lockdown not in ("", "none")
    if not locked and not kconfig.is_set(root, "KEXEC_SIG_FORCE"):
        return
    try:
        kexec_file.try_out(kernel_fd)
    except OSError as error:
        number = error.errno or 0
        if number == errno.EBUSY:
            return  # the load meets the lock too, and has patience
        if locked and number == errno.EPERM:
            raise Refused(
                f"lockdown={lockdown} is on and the kernel does not trust the signature of {path}"
            ) from error
        name = errno.errorcode.get(number, number)
        explanation = kexec_file.explain(number, image)
        refused = RefusedForNow if number in _PASSING else Refused
        raise refused(f"the kernel would not take {path}: {name}: {explanation}") from error


def _check_paging(paths: ImageFiles, image: ImageName, boot: BootImage, seen: Observation) -> None:
    """From a kernel with 5-level paging. The kernel refuses the first of the two, and only in
    kexec_file_load(2) (bzImage64_probe() in arch/x86/kernel/kexec-bzimage64.c); nobody the other.
    """
    if boot.five_level is False:
        raise Refused(
            f"{paths.kernel} cannot be entered with 5-level paging, which this kernel runs with"
            " (XLF_5LEVEL is not set; it is from 5.3 on): name a newer kernel, or boot this one"
            " with no5lvl"
        )
    if not boot.stays_four_level(paths.cmdline):
        return
    if image is ImageName.CRASH:
        place = seen.map.crash_regions if seen.map else RangeSet()
    else:
        place = seen.forecast.ranges if seen.forecast else RangeSet()
    if any(r.end > FOUR_LEVEL_END for r in place):
        raise Refused(
            f"{paths.kernel} would run with 4-level paging, and would lie above the"
            f" {human(FOUR_LEVEL_END)} that this reaches: name a kernel with CONFIG_X86_5LEVEL, and"
            " no no5lvl on its command line"
        )


def _check_room(boot: BootImage, initrd_fd: int | None, seen: Observation) -> None:
    """All segments go into one reserved region; what surely does not fit is refused."""
    region = seen.map.crash_region if seen.map else None
    room = region.size if region else 0
    needed = boot.memory_size + (os.fstat(initrd_fd).st_size if initrd_fd is not None else 0)
    if needed > room:
        raise Refused(
            f"kernel and initrd take {human(needed)}, the region reserved for them has"
            f" {human(room)}: boot with a larger crashkernel="
        )
