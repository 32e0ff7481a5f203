# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration's keys: explained by the comments of packaging/kexecwatchd.toml, what is
allowed and the defaults by config.py."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from kexecwatchd.config import Config

PATH = Path(__file__).resolve().parent.parent.parent / "packaging/kexecwatchd.toml"

_ROW = re.compile(r"(\w+)  +(\S.*)")


@dataclass(frozen=True, slots=True)
class Setting:
    """`text`: the manual's source, with an empty line at its end; the same for keys that one
    comment explains together, "" where the table of crash has explained it."""

    key: str
    text: str
    expected: str
    default: str


def table(name: str) -> list[Setting]:
    """The keys of a table, in the order of the file. KeyError for one that config.py lacks."""
    model: BaseModel = getattr(Config(), name)
    known = type(model).model_fields
    return [
        Setting(key, text, known[key].description or "", _default(getattr(model, key)))
        for key, text in _explained(name)
    ]


def _explained(name: str) -> list[tuple[str, str]]:
    after = PATH.read_text().split(f"\n[{name}]\n")[1]
    found: list[tuple[str, str]] = []
    comment: list[str] = []
    text = ""
    for line in after.splitlines():
        if line.startswith("["):
            break
        if key := re.match(r"#?(\w+) = ", line):
            if comment:
                text, comment = _source(comment), []
            found.append((key[1], text))
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            comment, text = [], ""
    return found


def _source(comment: list[str]) -> str:
    """Rows of a word and its meaning become a list."""
    rows = [match for line in comment if (match := _ROW.fullmatch(line))]
    text = [line for line in comment if not _ROW.fullmatch(line)]
    terms = [f"- `{row[1]}`\n  {row[2][:1].upper()}{row[2][1:]}." for row in rows]
    parts = [*(["\n".join(text)] if text else []), *(["\n".join(terms)] if terms else [])]
    return "\n\n".join(parts) + "\n\n"


def _default(value: object) -> str:
    return "none" if value is None else f"`{json.dumps(value)}`"
