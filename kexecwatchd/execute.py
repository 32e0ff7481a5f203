# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out one load or unload. Blocks, for seconds at times: call it from a worker thread.

Tries the configured files and then the last good ones, each only after its preflight. What was
done is told in an Outcome; all that is remembered here is what the kernel has refused.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kexecwatchd import lastgood, preflight
from kexecwatchd.kernel import kexec_file, kmsg
from kexecwatchd.kernel.kmsg import Placement
from kexecwatchd.ledger import LastGood, Pair
from kexecwatchd.model import ImageFiles, ImageName, Observation
from kexecwatchd.preflight import Files, Refused

CONFIGURED = "configured"
LAST_GOOD = "last-good"

# Failures that say nothing about the files.
PASSING = (errno.ENOMEM, errno.EINTR)

# The signatures of kernel and initrd, and the command line.
Identity = tuple[str, str, str]

# EBUSY: another kexec operation holds the kernel's lock, most often for milliseconds.
BUSY_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a load. `seconds`: how long all system calls took, those aside that only met
    a busy lock; 0 when there was no other.

    `degraded` says why it was not the configured files that were loaded. `placement` is None
    where the kernel did not log it whole. `debug_refused`: this kernel has no KEXEC_FILE_DEBUG.
    `kept` is our copy of what was loaded, None where it could not be made (`keep_error`).
    """

    succeeded: bool
    seconds: float = 0.0
    source: str = ""
    error: str = ""
    degraded: str = ""
    placement: Placement | None = None
    debug_refused: bool = False
    kept: LastGood | None = None
    keep_error: str = ""

    @property
    def called(self) -> bool:
        return self.seconds > 0


@dataclass(frozen=True, slots=True)
class _Call:
    error: OSError | None
    seconds: float
    placement: Placement | None
    debug_refused: bool


class Executor:
    """The one door to the loading system calls."""

    def __init__(self, root: Path, copies: Path) -> None:
        self._root = root
        self._copies = copies
        self._failed: dict[tuple[ImageName, Identity], str] = {}

    def load(
        self,
        image: ImageName,
        pair: Pair,
        kept: LastGood | None,
        seen: Observation,
        debug: bool,
    ) -> Outcome:
        """Load the configured pair, or else the last good one."""
        candidates = [(CONFIGURED, _configured(pair))]
        if kept is not None:
            candidates.append((LAST_GOOD, lastgood.paths_of(self._copies, kept)))
        problems: list[str] = []
        seconds = 0.0
        debug_refused = False
        for source, paths in candidates:
            try:
                with preflight.checked(paths, image, seen, self._root) as files:
                    identity = (files.kernel_signature, files.initrd_signature, paths.cmdline)
                    if seen.loaded(image):
                        self._refuse_known_failure(image, identity)
                    call = self._call(image, files, paths.cmdline, seen, debug)
                    seconds += call.seconds
                    debug_refused |= call.debug_refused
                    debug &= not call.debug_refused
                    if call.error is None:
                        good, keep_error = self._keep(source, pair, files, kept)
                        return Outcome(
                            succeeded=True,
                            seconds=seconds,
                            source=source,
                            degraded="" if source == CONFIGURED else problems[0],
                            placement=call.placement,
                            debug_refused=debug_refused,
                            kept=good,
                            keep_error=keep_error,
                        )
                    problems.append(_explain(call.error, image))
                    if call.error.errno == errno.EBUSY:
                        break  # it has nothing to do with the files, and cost nothing
                    if call.error.errno not in PASSING:
                        self._failed[image, identity] = problems[-1]
            except Refused as refusal:
                problems.append(str(refusal))
        return Outcome(
            succeeded=False,
            seconds=seconds,
            error="; the last good files: ".join(problems),
            debug_refused=debug_refused,
        )

    def forget_failures(self) -> None:
        """Give files that the kernel refused another chance."""
        self._failed.clear()

    def _refuse_known_failure(self, image: ImageName, identity: Identity) -> None:
        """Raise Refused for what the kernel has refused before.

        Finding that out once more would cost the crash image that is loaded now.
        """
        error = self._failed.get((image, identity))
        if error is not None:
            raise Refused(f"{error} (not tried again until the files or the configuration change)")

    def unload(self, image: ImageName) -> str:
        """Unload the image; "" or what went wrong."""
        flags = kexec_file.KEXEC_FILE_ON_CRASH if image is ImageName.CRASH else 0
        error = _patiently(lambda: kexec_file.unload(flags), BUSY_PAUSES)
        return "" if error is None else _explain(error, image)

    def _keep(
        self, source: str, pair: Pair, files: Files, kept: LastGood | None
    ) -> tuple[LastGood | None, str]:
        if source == LAST_GOOD:
            return kept, ""
        try:
            return lastgood.keep(self._copies, pair, files), ""
        except OSError as error:
            return kept, f"no copy of the files that loaded could be kept: {error}"

    def _call(
        self, image: ImageName, files: Files, cmdline: str, seen: Observation, debug: bool
    ) -> _Call:
        """The system call, with the kernel's own account of the placement where it gives one."""
        flags = kexec_file.KEXEC_FILE_ON_CRASH if image is ImageName.CRASH else 0
        limit = seen.limit_panic if image is ImageName.CRASH else seen.limit_reboot
        # Each try uses up kernel.kexec_load_limit_*, one that only met a busy lock too.
        pauses = BUSY_PAUSES if limit < 0 else ()

        def attempt(extra: int) -> OSError | None:
            return _patiently(
                lambda: kexec_file.load(files.kernel_fd, files.initrd_fd, cmdline, flags | extra),
                pauses,
            )

        with contextlib.ExitStack() as stack:
            log = _kernel_log(self._root, stack) if debug else None
            started = time.monotonic()
            # Without the log to read, the flag would only write addresses into it.
            error = attempt(kexec_file.KEXEC_FILE_DEBUG if log is not None else 0)
            refused = False
            if log is not None and error is not None and error.errno == errno.EINVAL:
                # Before 6.8 the flag is unknown: EINVAL, before any image is touched.
                error = attempt(0)
                refused = error is None or error.errno != errno.EINVAL
            busy = error is not None and error.errno == errno.EBUSY
            seconds = 0.0 if busy else time.monotonic() - started
            placed = error is None and log is not None and not refused
            return _Call(error, seconds, _placement(log, image) if placed else None, refused)


def _kernel_log(root: Path, stack: contextlib.ExitStack) -> kmsg.KernelLog | None:
    """The kernel's log from now on; None where it is not ours to read."""
    try:
        log = stack.enter_context(kmsg.KernelLog(root))
        log.mark()
    except OSError:
        return None
    return log


def _configured(pair: Pair) -> ImageFiles:
    return ImageFiles(Path(pair.kernel), Path(pair.initrd) if pair.initrd else None, pair.cmdline)


def _placement(log: kmsg.KernelLog | None, image: ImageName) -> Placement | None:
    if log is None:
        return None
    try:
        lines, complete = log.since_mark()
    except OSError:
        return None
    placement = kmsg.parse_placement(lines) if complete else None
    if placement is None or (placement.type == 1) != (image is ImageName.CRASH):
        return None
    return placement


def _explain(error: OSError, image: ImageName) -> str:
    number = error.errno or 0
    name = errno.errorcode.get(number, str(number))
    return f"kexec_file_load: {name}: {kexec_file.explain(number, image)}"


def _patiently(call: Callable[[], None], pauses: Sequence[float]) -> OSError | None:
    """Make the call, again after each pause while the kernel's lock is busy."""
    for pause in (*pauses, None):
        try:
            call()
        except OSError as error:
            if error.errno != errno.EBUSY or pause is None:
                return error
            time.sleep(pause)
        else:
            break
    return None
