# SPDX-License-Identifier: GPL-2.0-or-later
"""What was installed: kept so that exactly that can be taken back, and nobody else's."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from kexecwatchd import trusted
from kexecwatchd.trusted import Untrusted

PATH = PurePosixPath("/var/lib/kexecwatchd/install-units.json")


class RecordError(Exception):
    """There is a record, and it cannot be used."""


class Record(BaseModel):
    """Paths are those of the machine, from / on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = ""
    """Of the kexecwatchd that wrote it."""
    files: dict[str, tuple[str, ...]] = {}
    """What may be at each path: fingerprints (layout.py). More than one only until all is written,
    so that whoever was interrupted in between can go on."""
    directories: tuple[str, ...] = ()
    """Those that were made."""


def read(root: Path) -> Record | None:
    """The record below `root`; None where nothing was installed. Raises RecordError."""
    path = root / PATH.relative_to("/")
    if not path.exists():
        return None
    try:
        with open(trusted.open_file(path), "rb") as file:
            return Record.model_validate_json(file.read())
    except Untrusted as error:
        raise RecordError(str(error)) from None
    except (OSError, ValidationError) as error:
        raise RecordError(f"{path}: cannot be used: {error}") from None
