# SPDX-License-Identifier: GPL-2.0-or-later
"""Another tool's reload rule, switched off in the way that udev documents, and on again.

udev(7): a file in /etc/udev/rules.d hides the one of its name in /run and /usr/lib; a link to
/dev/null stands for no rules at all. So nothing of the other package is edited, and its upgrades
change nothing. Which links are ours is on record, since only these are to be taken back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kexecwatchd import trusted
from kexecwatchd.trusted import Untrusted

RECORD = "var/lib/kexecwatchd/takeover.json"
OVERRIDES = "etc/udev/rules.d"
_NOTHING = "/dev/null"


class TakeoverError(Exception):
    """It cannot be done; the message says why, and what to do."""


class Record(BaseModel):
    """The links that were made, by the names of their files, and whether their directory was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[str, ...] = ()
    made_directory: bool = False


def switched_off(root: Path = Path("/")) -> list[str]:
    """The names of the rules that were switched off here and are so still. Raises TakeoverError."""
    return [name for name in _read(root).rules if _is_override(root / OVERRIDES / name)]


def take(root: Path, names: Iterable[str]) -> None:
    """Switch the rules off; one that is off stays so. Raises TakeoverError, OSError."""
    record = _read(root)
    directory = root / OVERRIDES
    wanted = [name for name in names if not _is_override(directory / name)]
    for name in wanted:
        if os.path.lexists(directory / name):
            raise TakeoverError(
                f"/{OVERRIDES}/{name} is there: a file of the administrator's, and it is left alone"
            )
    # On record before anything is done: what was cut short can be taken back.
    _write(
        root,
        Record(
            rules=tuple(sorted({*record.rules, *wanted})),
            made_directory=record.made_directory or not directory.exists(),
        ),
    )
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in wanted:
        (directory / name).symlink_to(_NOTHING)


def revert(root: Path) -> tuple[list[str], list[str]]:
    """Switch on again what take() switched off: the names of these rules, and of those where
    something else stands by now, which is left alone. Raises TakeoverError, OSError."""
    record = _read(root)
    directory = root / OVERRIDES
    ours = [name for name in record.rules if _is_override(directory / name)]
    others = [n for n in record.rules if n not in ours and os.path.lexists(directory / n)]
    for name in ours:
        (directory / name).unlink()
    if record.made_directory:
        with contextlib.suppress(OSError):  # somebody else uses it by now
            directory.rmdir()
    with contextlib.suppress(FileNotFoundError):
        (root / RECORD).unlink()
    return ours, others


def _is_override(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path) == _NOTHING


def _read(root: Path) -> Record:
    path = root / RECORD
    try:
        if not path.exists():
            return Record()
        with open(trusted.open_file(path), "rb") as file:
            return Record.model_validate_json(file.read())
    except Untrusted as error:
        raise TakeoverError(str(error)) from None
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise TakeoverError(
            f"/{RECORD} cannot be read: {why}; see which links to {_NOTHING} are in /{OVERRIDES},"
            " then remove it"
        ) from None


def _write(root: Path, record: Record) -> None:
    path = root / RECORD
    # As the service's StateDirectory= makes it.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with open(new, "w", encoding="utf-8", opener=_private) as file:
        file.write(record.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
