# SPDX-License-Identifier: GPL-2.0-or-later
"""Our own copies of the last files that loaded.

An open descriptor would survive a removed or renamed file, but not one truncated in place, nor a
restart of the daemon. So the files are copied once for each change of theirs, into a directory
that only root can enter, and named by the signature of the original: a copy that was cut short
by a kill never bears the name of a whole one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from kexecwatchd import preflight
from kexecwatchd.ledger import LastGood, Pair
from kexecwatchd.model import ImageFiles
from kexecwatchd.preflight import Files

DIRECTORY = Path("var/lib/kexecwatchd/last-good")  # below the root

CHUNK = 1 << 20


def paths_of(directory: Path, kept: LastGood) -> ImageFiles:
    """Where the copies are."""
    return ImageFiles(
        _name(directory, kept.kernel_signature),
        _name(directory, kept.initrd_signature) if kept.initrd_signature else None,
        kept.pair.cmdline,
    )


def keep(directory: Path, pair: Pair, files: Files) -> LastGood:
    """Copy what was just loaded, unless we have it; raises OSError (a full disk, most likely)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy(files.kernel_fd, files.kernel_signature, directory)
    if files.initrd_fd is not None:
        _copy(files.initrd_fd, files.initrd_signature, directory)
    return LastGood(
        pair=pair,
        kernel_signature=files.kernel_signature,
        initrd_signature=files.initrd_signature,
    )


def same(directory: Path, kept: LastGood, files: Files) -> bool:
    """Whether these files have the content of our copies."""
    pairs = [(files.kernel_fd, kept.kernel_signature)]
    if files.initrd_fd is not None or kept.initrd_signature:
        if files.initrd_fd is None or not kept.initrd_signature:
            return False
        pairs.append((files.initrd_fd, kept.initrd_signature))
    try:
        return all(_equal(fd, _name(directory, signature)) for fd, signature in pairs)
    except OSError:
        return False


def prune(directory: Path, kept: Iterable[LastGood | None]) -> None:
    """Remove every copy that no image needs any more, as far as that can be done."""
    needed = {
        _name(directory, signature).name
        for good in kept
        if good is not None
        for signature in (good.kernel_signature, good.initrd_signature)
        if signature
    }
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name not in needed:
                os.unlink(entry.path)


def _name(directory: Path, signature: str) -> Path:
    return directory / hashlib.sha256(signature.encode()).hexdigest()[:32]


def _equal(fd: int, path: Path) -> bool:
    with path.open("rb", buffering=0) as copy:
        offset = 0
        while True:
            chunk = os.pread(fd, CHUNK, offset)
            if chunk != os.pread(copy.fileno(), CHUNK, offset):
                return False
            if not chunk:
                return True
            offset += len(chunk)


def _copy(fd: int, signature: str, directory: Path) -> None:
    target = _name(directory, signature)
    if target.exists():
        return
    handle, temporary = tempfile.mkstemp(dir=directory)
    try:
        with os.fdopen(handle, "wb") as copy:
            offset = 0
            while chunk := os.pread(fd, CHUNK, offset):
                copy.write(chunk)
                offset += len(chunk)
        if preflight.signature(fd) != signature:
            raise OSError("it changed while it was copied")
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
