# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

from kexecwatchd import __version__
from tools.manual import facts
from tools.manual.markup import roff

DIRECTORY = facts.ROOT / "man"
# When the prose was last gone through; not the day of a build.
DATE = "2026-11-25"

_VOLUMES = {
    "1": "User Commands",
    "5": "File Formats and Interfaces",
    "8": "System Administration",
}
_MACRO = re.compile(r"^( *)@([a-z-]+)@$", re.MULTILINE)


def pages() -> dict[Path, str]:
    """Where each page belongs, and what it is to hold."""
    return {source.with_suffix(""): page(source) for source in sorted(DIRECTORY.glob("*.in"))}


def page(source: Path) -> str:
    """The page that is made of `source`, NAME.SECTION.in. KeyError for an unknown @name@."""
    name, _, section = source.stem.rpartition(".")
    text = _MACRO.sub(_expanded, source.read_text())
    return (
        '.\\" SPDX-License-Identifier: GPL-2.0-or-later\n'
        f'.\\" Made by python3 -m tools.manual from man/{source.name} and the code: change these.\n'
        f'.TH {name} {section} {DATE} "kexecwatchd {__version__}" "{_VOLUMES[section]}"\n'
        f"{roff(text)}"
    )


def prose() -> Mapping[str, str]:
    """What man/verbs says of each verb of kexecwatchctl."""
    _, *parts = re.split(r"^# ([\w-]+)\n", (DIRECTORY / "verbs").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], (text.strip() for text in parts[1::2]), strict=True))


def _expanded(match: re.Match[str]) -> str:
    made = facts.verbs(prose()) if match[2] == "verbs" else facts.MACROS[match[2]]()
    return indent(made, match[1])


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
