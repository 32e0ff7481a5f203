# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to write and to remove, and doing it so that a half done one can be gone on with.

The record of it is written before all else, with the old and the new fingerprints, and once more at
the end: whatever interrupts it, what is on the disk is known to be ours.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kexecwatchd import __version__
from kexecwatchd.install import record
from kexecwatchd.install.layout import CONFIG, File, Item, file_print, link_print
from kexecwatchd.install.record import Record

_MASK = link_print("/dev/null")


class InstallError(Exception):
    """It was not done, or not to its end; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Pure: what is to be done, by path from / on."""

    write: tuple[Item, ...] = ()
    remove: tuple[PurePosixPath, ...] = ()
    leave: tuple[PurePosixPath, ...] = ()
    """Ours once, but changed by the administrator; and what is the administrator's from the start:
    the configuration, and units that are masked."""
    foreign: tuple[PurePosixPath, ...] = ()
    """In the way: not ours, and another file than the one that is to be there."""


def look(root: Path, wanted: Sequence[Item], known: Record) -> Changes:
    """Compare what is `wanted`, nothing to remove all, with what is there.

    Raises OSError, and InstallError where `root` is not to be written to.
    """
    write: list[Item] = []
    remove: list[PurePosixPath] = []
    leave: list[PurePosixPath] = []
    foreign: list[PurePosixPath] = []
    for item in wanted:
        there = _fingerprint(_below(root, item.path))
        ours = known.files.get(str(item.path), ())
        if there == item.fingerprint:
            continue
        if there is None or there in ours:
            write.append(item)
        elif ours or item.path == CONFIG or there == _MASK:
            leave.append(item.path)
        else:
            foreign.append(item.path)
    for path in _stale(wanted, known):
        there = _fingerprint(_below(root, path))
        if there is not None:
            (remove if there in known.files[str(path)] else leave).append(path)
    return Changes(tuple(write), tuple(remove), tuple(leave), tuple(foreign))


def _stale(wanted: Sequence[Item], known: Record) -> list[PurePosixPath]:
    names = known.files.keys() - {str(item.path) for item in wanted}
    return [PurePosixPath(name) for name in sorted(names)]


def apply(root: Path, changes: Changes, wanted: Sequence[Item], known: Record) -> None:
    """Do it; with nothing `wanted` there is no record left. Raises InstallError."""
    done, at = 0, record.PATH
    directories = known.directories + _missing_directories(root, changes)
    try:
        if wanted:
            _keep(root, _files_under_way(changes, known), directories)
        for item in changes.write:
            at = item.path
            _write(root, item)
            done += 1
        for at in changes.remove:
            _below(root, at).unlink()
            done += 1
        at = record.PATH
        if wanted:
            _keep(root, _files_in_the_end(changes, wanted, known), directories)
        else:
            _below(root, at).unlink()
        _remove_empty(root, directories)
    except OSError as error:
        _remove_empty(root, directories)
        of = len(changes.write) + len(changes.remove)
        raise InstallError(
            f"{at}: {error.strerror}. {done} of {of} files were done, and systemd was told nothing."
            " When that is mended, say the same once more, or take back what is there:"
            " kexecwatchctl install-units --remove"
        ) from error


def _files_under_way(changes: Changes, known: Record) -> dict[str, tuple[str, ...]]:
    files = dict(known.files)
    for item in changes.write:
        files[str(item.path)] = (*files.get(str(item.path), ()), item.fingerprint)
    return files


def _files_in_the_end(
    changes: Changes, wanted: Sequence[Item], known: Record
) -> dict[str, tuple[str, ...]]:
    """What was there before us, and is what we would have written, is not ours."""
    ours = {*known.files, *(str(item.path) for item in changes.write)}
    return {
        str(item.path): known.files[str(item.path)]
        if item.path in changes.leave
        else (item.fingerprint,)
        for item in wanted
        if str(item.path) in ours
    }


def _missing_directories(root: Path, changes: Changes) -> tuple[str, ...]:
    paths = [record.PATH, *(item.path for item in changes.write)]
    parents = {parent for path in paths for parent in path.parents[:-1]}
    return tuple(str(p) for p in sorted(parents) if not _below(root, p).exists())


def _keep(root: Path, files: dict[str, tuple[str, ...]], directories: tuple[str, ...]) -> None:
    kept = Record(version=__version__, files=files, directories=directories)
    content = kept.model_dump_json(indent=1).encode() + b"\n"
    # As the service's StateDirectory= makes it.
    _make_directories(_below(root, record.PATH.parent), 0o700)
    _write(root, File(record.PATH, content, 0o600))


def _write(root: Path, item: Item) -> None:
    """Put it there as a whole or not at all."""
    path = _below(root, item.path)
    _make_directories(path.parent, 0o755)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with open(handle, "wb") as file:
        new = Path(name)
        try:
            if isinstance(item, File):
                file.write(item.content)
                file.flush()
                os.fchmod(handle, item.mode)
                os.fsync(handle)
            else:
                new.unlink()
                new.symlink_to(item.target)
            os.replace(new, path)
        except OSError:
            new.unlink(missing_ok=True)
            raise


def _make_directories(path: Path, mode: int) -> None:
    """`mode` is for the last of them, whatever the umask."""
    if not path.is_dir():
        _make_directories(path.parent, 0o755)
        path.mkdir()
        path.chmod(mode)


def _remove_empty(root: Path, directories: Sequence[str]) -> None:
    for name in sorted(directories, reverse=True):
        # Others may have put something there, or removed it.
        with contextlib.suppress(OSError):
            _below(root, PurePosixPath(name)).rmdir()


def _fingerprint(path: Path) -> str | None:
    """What is there: that of a file or a link, None for nothing, another text for anything else."""
    if path.is_symlink():
        return link_print(os.readlink(path))
    if path.is_file():
        return file_print(path.read_bytes())
    return "other" if path.exists() else None


def _below(root: Path, path: PurePosixPath) -> Path:
    """Raises InstallError where a link leads out of `root`."""
    place = root / path.relative_to("/")
    if not place.parent.resolve().is_relative_to(root.resolve()):
        raise InstallError(f"{place}: a link on the way leads out of {root}; use chroot instead")
    return place
