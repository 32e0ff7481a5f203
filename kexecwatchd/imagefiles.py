# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the files that images are loaded from: are they others than before, and whole?

A file is written for as long as somebody has it open for writing. Between two steps of whoever
installs a kernel nobody has, so what changed is left alone until it has been quiet. What is
finished by both is checked as before a load (preflight.py), and compared with our copies: the
content that is loaded need not be loaded again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from pathlib import Path

from kexecwatchd import decisions, lastgood, preflight
from kexecwatchd.filewatch import Alarm
from kexecwatchd.kernel import filelock, lease
from kexecwatchd.ledger import ImageRecord, Ledger
from kexecwatchd.model import ImageFiles, ImageName, Observation
from kexecwatchd.ondisk import OnDisk, Signatures
from kexecwatchd.preflight import Refused, RefusedForNow

# Seconds without a change. Long enough for what is done at one go: a file copied in pieces, a link
# re-pointed after the other, a file renamed after its copy is synced to disk. Short beside the time
# in which a machine runs on an image of the day before.
QUIET = 5.0

# Who holds a lock for writing on one of these is a package manager at work. Between a new kernel
# and its initrd lie minutes in which both are whole and do not belong together.
PACKAGE_LOCKS = {
    "var/lib/dpkg/lock-frontend": "dpkg",  # apt's, for all that it has dpkg do
    "var/lib/dpkg/lock": "dpkg",
    "usr/lib/sysimage/rpm/.rpm.lock": "rpm",
    "var/lib/rpm/.rpm.lock": "rpm",
}

# Seconds since the last change for which it is waited for. One that waits for an answer, which
# nobody gives, must not keep new files from being loaded for ever.
PATIENCE = 1800.0


class ImageFilesWatch:
    """What was seen of the files so far. All times are CLOCK_BOOTTIME, in seconds.

    `sources` are more files to watch, from which the configuration is completed; `sources_changed`
    hears when they are others than before, and finished.

    `due`: when a look would find quiet what is not yet; inf = nothing waits for that.
    """

    def __init__(
        self,
        root: Path,
        alarm: Alarm,
        *,
        sources: Callable[[], Collection[Path]] = tuple,
        sources_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = root
        self._alarm = alarm
        self._sources = sources
        self._sources_changed = sources_changed
        self._sources_known: dict[Path, str] = {}
        self._sources_new = False
        self._heard = self._looked = -math.inf
        self._steady: dict[Hashable, tuple[Hashable, float]] = {}
        self._checked: dict[ImageName, tuple[tuple[Signatures, str], tuple[str, bool]]] = {}
        self._problem_told = ""
        self.due = math.inf

    def listen(self, moment: float) -> None:
        """Take in what the alarm says. A look waits until nothing more comes."""
        if self._alarm.take():
            self._heard = moment
            self.due = moment + QUIET

    def look(
        self,
        wanted: Mapping[ImageName, ImageFiles],
        seen: Observation,
        ledger: Ledger,
        moment: float,
    ) -> dict[ImageName, OnDisk]:
        """The files of these images. Blocks: call it in a thread, and `tell` after it."""
        sources = self._sources()
        paths = [p for files in wanted.values() for p in (files.kernel, files.initrd) if p]
        locks = [self._root / lock for lock in PACKAGE_LOCKS]
        self._alarm.watch([*paths, *sources, *(lock for lock in locks if lock.parent.is_dir())])
        self.due = math.inf
        found = {
            image: self._image(image, files, seen, ledger.of(image), moment)
            for image, files in wanted.items()
        }
        self._look_at_sources(sources, moment)
        self._looked = moment
        return found

    def tell(self) -> None:
        """Pass on what a look found that is not about the images."""
        problem = self._alarm.problem
        if problem and problem != self._problem_told:
            decisions.trouble(f"new kernels and initrds are noticed late: {problem}")
        self._problem_told = problem
        if self._sources_new:
            self._sources_new = False
            self._sources_changed()

    def _image(
        self,
        image: ImageName,
        files: ImageFiles,
        seen: Observation,
        record: ImageRecord,
        moment: float,
    ) -> OnDisk:
        kernel, kernel_written = _state(files.kernel)
        initrd, initrd_written = _state(files.initrd) if files.initrd else ("", False)
        signatures = Signatures(str(files.kernel), str(files.initrd or ""), kernel, initrd)
        quiet = self._quiet(image, signatures, moment)
        names = [("kernel", kernel_written), ("initrd", initrd_written)]
        disk = OnDisk(
            signatures,
            written=" and ".join(name for name, is_written in names if is_written),
            quiet=quiet,
        )
        new = record.tried is not None and bool(signatures.changed(record.tried))
        if new and not disk.written:
            disk = replace(disk, packages=self._packages(image, moment))
        if not new or disk.unfinished or not seen.loaded(image):
            return disk
        refused, same = self._check(image, files, signatures, seen, record)
        return replace(disk, refused=refused, same=same)

    def _packages(self, image: ImageName, moment: float) -> str:
        """The package manager that is at work on what changed, "" = none. When it ends it closes
        its lock, which rings."""
        enough = self._steady[image][1] + PATIENCE
        for lock, name in PACKAGE_LOCKS.items():
            if moment < enough and filelock.locked(self._root / lock):
                self.due = min(self.due, enough)
                return name
        return ""

    def _check(
        self,
        image: ImageName,
        files: ImageFiles,
        signatures: Signatures,
        seen: Observation,
        record: ImageRecord,
    ) -> tuple[str, bool]:
        """Why new files are not to be loaded, "" = they are; and whether they are the old content,
        loaded with the command line that is configured.

        Done once for each change: unpacking an initrd takes seconds. What can pass without a change
        is asked at each look.
        """
        about = (signatures, files.cmdline)
        known = self._checked.get(image)
        if known is not None and known[0] == about:
            return known[1]
        refused, same = "", False
        try:
            with preflight.checked(files, image, seen, self._root) as opened:
                good = record.last_good if record.copied else None
                if good is not None and good.pair.cmdline == files.cmdline:
                    same = lastgood.same(self._root / lastgood.DIRECTORY, good, opened)
        except RefusedForNow as refusal:
            return str(refusal), False
        except Refused as refusal:
            refused = str(refusal)
        self._checked[image] = (about, (refused, same))
        return refused, same

    def _look_at_sources(self, sources: Collection[Path], moment: float) -> None:
        states = {path: _state(path) for path in sources}
        now = {path: signature for path, (signature, _) in states.items()}
        # Files that are new here are as they were when they were read.
        known = {path: self._sources_known.get(path, now[path]) for path in now}
        quiet = self._quiet("sources", tuple(now.items()), moment)
        if now != known and quiet and not any(written for _, written in states.values()):
            self._sources_new = True
            known = now
        self._sources_known = known

    def _quiet(self, what: Hashable, state: Hashable, moment: float) -> bool:
        """Whether this has been as it is for long enough; if not, `due` says when to look again."""
        known = self._steady.get(what)
        if known is not None and known[0] == state:
            since = max(known[1], self._heard)
        else:
            # What the alarm told of happened then; of all else it is only known that it is so now.
            since = self._heard if known and self._heard > self._looked else moment
        self._steady[what] = (state, since)
        if moment >= since + QUIET:
            return True
        self.due = min(self.due, since + QUIET)
        return False


def _state(path: Path) -> tuple[str, bool]:
    """The signature of a file, "" where there is none; and whether somebody writes to it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return "", False
    try:
        return preflight.signature(fd), bool(lease.open_for_writing(fd))
    finally:
        os.close(fd)
