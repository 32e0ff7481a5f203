# SPDX-License-Identifier: GPL-2.0-or-later
"""udev's rules: which files are in force, and which programs they run.

Sources: udev(7); udev_rules_parse_file() and parse_line() in systemd's src/udev/udev-rules.c. Only
what is run is read here: whether a rule matches, and where its GOTO leads, is not followed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: Of two files of the same name, the one in the directory that is named first counts. (/lib is a
#: link to /usr/lib on every system with a systemd of today.)
DIRECTORIES = (
    "etc/udev/rules.d",
    "run/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
)
FILES = tuple(f"{directory}/*.rules" for directory in DIRECTORIES)

_TOKEN = re.compile(r'([A-Z_]+)(?:\{([^}]*)\})?\s*([=!+:-]?=)\s*[ei]?"((?:[^"\\]|\\.)*)"')
_ASSIGN = frozenset({"=", "+=", ":="})


@dataclass(frozen=True, slots=True)
class Command:
    """Something that a rule has run. `by_systemd`: a unit that systemd starts (SYSTEMD_WANTS), in
    place of a command line for udev's own worker (PROGRAM, IMPORT{program}, RUN)."""

    text: str
    by_systemd: bool = False


@dataclass(frozen=True, slots=True)
class RuleFile:
    """`path`: on that machine. `subsystems`: what any of its rules matches SUBSYSTEM with."""

    path: str
    subsystems: frozenset[str]
    commands: tuple[Command, ...]


def read(root: Path = Path("/")) -> list[RuleFile]:
    """The files in force, in udev's order. Raises OSError.

    An empty file, and a link to /dev/null, stands for none, and hides those of its name.
    """
    places: dict[str, Path] = {}
    for directory in DIRECTORIES:
        for path in sorted((root / directory).glob("*.rules")):
            places.setdefault(path.name, path)
    found = []
    for _, path in sorted(places.items()):
        # A link may lead to /dev/null, or nowhere.
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if text.strip():
            found.append(parse(text, f"/{path.relative_to(root)}"))
    return found


def parse(text: str, path: str) -> RuleFile:
    """What any text tells; what is no rule tells nothing."""
    subsystems: set[str] = set()
    commands: list[Command] = []
    for line in text.replace("\\\n", "").splitlines():
        if line.lstrip().startswith("#"):
            continue
        for key, attribute, operator, quoted in _TOKEN.findall(line):
            value = re.sub(r'\\(["\\])', r"\1", quoted)
            if key == "SUBSYSTEM" and operator == "==":
                subsystems.update(value.split("|"))
            elif (
                key == "PROGRAM"
                or (key, attribute) == ("IMPORT", "program")
                or (key == "RUN" and attribute != "builtin" and operator in _ASSIGN)
            ):
                commands.append(Command(value))
            elif (key, attribute) == ("ENV", "SYSTEMD_WANTS") and operator in _ASSIGN:
                commands.append(Command(value, by_systemd=True))
    return RuleFile(path, frozenset(subsystems), tuple(commands))
