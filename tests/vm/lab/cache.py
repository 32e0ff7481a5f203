# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's cache: directories named by the content of what they were made from.

An artefact is built under a file lock into a temporary name and then renamed, so a directory that
exists is whole, and two pytest workers never build the same one twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

#: What a content hash takes in: files by what is in them.
Input = str | bytes | Path

#: How many versions of one kind of artefact stay (the most recently used ones).
KEEP = 2
#: Whatever was not used for so many seconds goes too: a kind may have fallen out of use.
MAX_AGE = 7 * 24 * 3600


def checkout_root() -> Path:
    """The top directory of the checkout that this file is part of."""
    return Path(__file__).resolve().parents[3]


def default_directory() -> Path:
    """Where the cache lives: KEXECWATCHD_LAB_CACHE, or build/lab in the checkout."""
    override = os.environ.get("KEXECWATCHD_LAB_CACHE")
    return Path(override) if override else checkout_root() / "build" / "lab"


def digest(parts: Iterable[Input]) -> str:
    """A short hash of texts, bytes and files' contents, in order."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = hashlib.sha256(part.read_bytes()).digest()
        else:
            data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:16]


class Cache:
    """Artefact directories below one root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def artefact(self, kind: str, inputs: Iterable[Input], build: Callable[[Path], None]) -> Path:
        """Return the directory of `kind` made from `inputs`; call `build(empty_dir)` if need be."""
        path = self.root / f"{kind}-{digest(inputs)}"
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock(path.name):
            if not path.is_dir():
                partial = self.root / f".{path.name}.partial"
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                try:
                    build(partial)
                    partial.rename(path)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
                self._prune(kind, keep=path)
            os.utime(path)
        return path

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self.root / f".{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _prune(self, kind: str, keep: Path) -> None:
        # A QEMU that still runs from a pruned image keeps its open files, so this is safe.
        used = {p: p.stat().st_mtime for p in self.root.glob("[!.]*-*") if p.is_dir()}
        alike = [p for p in used if p.name[: len(kind)] == kind and len(p.name) == len(keep.name)]
        alike.sort(key=lambda p: used[p], reverse=True)
        stale = [p for p, at in used.items() if at < time.time() - MAX_AGE]
        for old in {*alike[KEEP:], *stale}:
            if old != keep:
                shutil.rmtree(old, ignore_errors=True)
                (self.root / f".{old.name}.lock").unlink(missing_ok=True)
