# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out one load or unload. Blocks, for seconds at times: call it from a worker thread.

Tries the configured files and then the last good ones, each only after its preflight. What was
done is told in an Outcome; all that is remembered here is what the kernel has refused.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from pathlib import Path

from kexecwatchd import lastgood, preflight
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_DEBUG, KEXEC_FILE_NO_CMA
from kexecwatchd.ledger import LastGood, Pair
from kexecwatchd.loaders import Call, kexec_file, kexec_tools
from kexecwatchd.model import ImageFiles, ImageName, Load, Observation, Placement
from kexecwatchd.ondisk import Signatures
from kexecwatchd.preflight import Files, Refused
from kexecwatchd.ranges import RangeSet

CONFIGURED = "configured"
LAST_GOOD = "last-good"

# Other files would fare no better: a busy lock, and a program that hung.
POINTLESS = (errno.EBUSY, errno.ETIMEDOUT)

# Failures that have nothing to do with the files, and last.
LASTING = (errno.EADDRNOTAVAIL, errno.EPERM, errno.EACCES, errno.ENOSYS)

# What a refusal is held against: the image, whether it was a detour (each loader has its own
# refusals), the signatures of kernel and initrd, and the command line.
Attempt = tuple[ImageName, bool, str, str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a load, or unload. `seconds`: how long all system calls took, those aside that
    only met a busy lock; 0 when there was no other.

    `number`: the errno of the last call that failed, 0 where the kernel refused none. `degraded`
    says why it was not the configured files that were loaded. `placement` is None where the loader
    did not tell it whole. `refused_flags`: those that this kernel does not know.
    `signatures`: the configured files, where it came to the call for them.
    `hopeless`: trying again comes to nothing while the machine is as it is. `kept` is our copy of
    what was loaded, None where it could not be made (`keep_error`).
    """

    succeeded: bool
    seconds: float = 0.0
    source: str = ""
    error: str = ""
    number: int = 0
    degraded: str = ""
    placement: Placement | None = None
    refused_flags: int = 0
    hopeless: bool = False
    signatures: Signatures | None = None
    kept: LastGood | None = None
    keep_error: str = ""

    @property
    def called(self) -> bool:
        return self.seconds > 0


class Executor:
    """The one door to the loaders."""

    def __init__(self, root: Path, copies: Path) -> None:
        self._root = root
        self._copies = copies
        self._failed: dict[Attempt, str] = {}

    def load(
        self,
        image: ImageName,
        pair: Pair,
        kept: LastGood | None,
        seen: Observation,
        *,
        load: Load,
        refused_flags: int = 0,
    ) -> Outcome:
        """Load the configured pair, or else the last good one, by the way that `load` names.

        `refused_flags` of kexec_file_load(2) are known not to be known here.
        """
        candidates = [(CONFIGURED, _configured(pair))]
        if kept is not None:
            candidates.append((LAST_GOOD, lastgood.paths_of(self._copies, kept)))
        detour = load.detour
        if image is ImageName.REBOOT:
            hidden = seen.boot.hidden if seen.boot else RangeSet()
            hidden |= detour.hidden if detour else RangeSet()
            candidates = [(source, _hiding(paths, hidden)) for source, paths in candidates]
        problems: list[str] = []
        seconds = 0.0
        refused = refused_flags
        hopeless = False
        number = 0
        opened: Signatures | None = None
        for source, paths in candidates:
            try:
                with preflight.checked(paths, image, seen, self._root) as files:
                    signatures = (files.kernel_signature, files.initrd_signature)
                    if source == CONFIGURED:
                        opened = Signatures(pair.kernel, pair.initrd, *signatures)
                    attempt = (image, detour is not None, *signatures, paths.cmdline)
                    if seen.loaded(image):
                        self._refuse_known_failure(attempt)
                    call = self._call(image, files, paths.cmdline, seen, load=load, refused=refused)
                    seconds += call.seconds
                    refused |= call.refused_flags
                    if call.error is None:
                        good, keep_error = self._keep(source, pair, files, kept)
                        return Outcome(
                            succeeded=True,
                            seconds=seconds,
                            source=source,
                            number=number,
                            degraded="" if source == CONFIGURED else problems[0],
                            placement=_with_alignment(call.placement, files),
                            refused_flags=refused,
                            signatures=opened,
                            kept=good,
                            keep_error=keep_error,
                        )
                    problems.append(str(call.error))
                    number = call.error.number or number
                    hopeless = call.error.blames_files or call.error.number in LASTING
                    if call.error.number in POINTLESS:
                        break
                    if call.error.blames_files:
                        self._failed[attempt] = problems[-1]
            except Refused as refusal:
                problems.append(str(refusal))
        return Outcome(
            succeeded=False,
            seconds=seconds,
            error="; the last good files: ".join(problems),
            number=number,
            refused_flags=refused,
            hopeless=hopeless,
            signatures=opened,
        )

    def forget_failures(self) -> None:
        """Give files that the kernel refused another chance."""
        self._failed.clear()

    def _refuse_known_failure(self, attempt: Attempt) -> None:
        """Raise Refused for what has been refused before.

        Finding that out once more would cost the crash image that is loaded now.
        """
        error = self._failed.get(attempt)
        if error is not None:
            raise Refused(f"{error} (not tried again until the files or the configuration change)")

    def unload(self, image: ImageName) -> Outcome:
        """Unload the image."""
        call = kexec_file.unload(image)
        if call.error is None:
            return Outcome(succeeded=True, seconds=call.seconds)
        return Outcome(
            succeeded=False,
            seconds=call.seconds,
            error=str(call.error),
            number=call.error.number,
        )

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
        self,
        image: ImageName,
        files: Files,
        cmdline: str,
        seen: Observation,
        *,
        load: Load,
        refused: int,
    ) -> Call:
        limit = seen.limit_panic if image is ImageName.CRASH else seen.limit_reboot
        again = limit < 0  # each try uses up kernel.kexec_load_limit_*
        if load.detour is not None:
            return kexec_tools.load(self._root, files, cmdline, load.detour.below, again=again)
        optional = KEXEC_FILE_DEBUG
        if image is ImageName.REBOOT and seen.cma and not load.cma:
            optional |= KEXEC_FILE_NO_CMA
        optional &= ~refused
        return kexec_file.load(self._root, image, files, cmdline, optional=optional, again=again)


def _configured(pair: Pair) -> ImageFiles:
    return ImageFiles(Path(pair.kernel), Path(pair.initrd) if pair.initrd else None, pair.cmdline)


def _with_alignment(placement: Placement | None, files: Files) -> Placement | None:
    """The placement, its kernel with what that needs."""
    if placement is None:
        return None
    segments = tuple(
        replace(s, alignment=files.kernel_alignment) if s.name == "kernel" else s
        for s in placement.segments
    )
    return replace(placement, segments=segments)


def _hiding(files: ImageFiles, hidden: RangeSet) -> ImageFiles:
    return files._replace(cmdline=kexec_tools.hiding(files.cmdline, hidden))
