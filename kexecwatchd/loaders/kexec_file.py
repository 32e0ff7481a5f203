# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads and unloads through kexec_file_load(2), with the kernel's own account of the placement."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from kexecwatchd.kernel import kexec_file, kmsg
from kexecwatchd.loaders import Call, LoadError, patiently
from kexecwatchd.model import ImageName, PlacedBy, Placement
from kexecwatchd.preflight import Files

BUSY_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)

# Failures that say nothing about the files.
PASSING = (errno.ENOMEM, errno.EINTR, errno.EBUSY, errno.ETXTBSY)


def load(
    root: Path, image: ImageName, files: Files, cmdline: str, *, optional: int, again: bool
) -> Call:
    """Load the image. `optional`: flags that newer kernels know (KEXEC_FILE_DEBUG, to have the
    kernel log where it puts it; KEXEC_FILE_NO_CMA). `again`: a busy lock may be tried again; not so
    where each try uses up kernel.kexec_load_limit_*."""

    def attempt(extra: int) -> tuple[LoadError | None, float]:
        def call() -> None:
            with _explaining(image):
                flags = _flags(image) | extra
                kexec_file.load(files.kernel_fd, files.initrd_fd, cmdline, flags)

        return patiently(call, BUSY_PAUSES if again else ())

    with contextlib.ExitStack() as stack:
        log = _kernel_log(root, stack) if optional & kexec_file.KEXEC_FILE_DEBUG else None
        if log is None:
            # Nobody could read what the flag has the kernel write.
            optional &= ~kexec_file.KEXEC_FILE_DEBUG
        seconds = 0.0
        for extra in _ladder(optional):
            error, more = attempt(extra)
            seconds += more
            # A flag that is unknown: EINVAL, before any image is touched.
            if error is None or error.number != errno.EINVAL:
                break
        placed = error is None and log is not None and extra & kexec_file.KEXEC_FILE_DEBUG
        # Where all failed alike the flags were not to blame.
        refused = optional & ~extra if error is None or error.number != errno.EINVAL else 0
        return Call(error, seconds, _placement(log, image) if placed and log else None, refused)


def _ladder(optional: int) -> list[int]:
    """The flags to try one after the other: all, then without the newest, down to none."""
    steps = [optional]
    for flag in (kexec_file.KEXEC_FILE_NO_CMA, kexec_file.KEXEC_FILE_DEBUG):
        if steps[-1] & flag:
            steps.append(steps[-1] & ~flag)
    return steps


def unload(image: ImageName) -> Call:
    """Unload the image."""

    def call() -> None:
        with _explaining(image):
            kexec_file.unload(_flags(image))

    return Call(*patiently(call, BUSY_PAUSES))


def _flags(image: ImageName) -> int:
    return kexec_file.KEXEC_FILE_ON_CRASH if image is ImageName.CRASH else 0


@contextlib.contextmanager
def _explaining(image: ImageName) -> Iterator[None]:
    """Turn what the system call raises into words."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        name = errno.errorcode.get(number, str(number))
        raise LoadError(
            f"kexec_file_load: {name}: {kexec_file.explain(number, image)}",
            number,
            blames_files=number not in PASSING,
        ) from error


def _kernel_log(root: Path, stack: contextlib.ExitStack) -> kmsg.KernelLog | None:
    """The kernel's log from now on; None where it is not ours to read."""
    try:
        log = stack.enter_context(kmsg.KernelLog(root))
        log.mark()
    except OSError:
        return None
    return log


def _placement(log: kmsg.KernelLog, image: ImageName) -> Placement | None:
    try:
        lines, complete = log.since_mark()
    except OSError:
        return None
    logged = kmsg.parse_load(lines) if complete else None
    if logged is None or (logged.type == kmsg.TYPE_CRASH) != (image is ImageName.CRASH):
        return None
    return Placement(logged.segments, PlacedBy.LOG, logged.elfcorehdr)
