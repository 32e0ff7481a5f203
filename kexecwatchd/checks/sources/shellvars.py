# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of shell variables, such as /etc/default/kdump-tools, read without running them.

What is taken: NAME=value, the value bare or in quotes, with export before it and a comment behind
it. What a shell would have to work out ($, backquotes, several commands) is a value that is not
known. Sources: "Quoting" in POSIX's Shell Command Language; sysconfig files are the same.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=(.*)")
# A word without anything to expand or to run: quoted in either way, or plain.
_PIECE = r"""'([^']*)'|"((?:[^"\\$`]|\\.)*)"|([^\s'"\\$`;&|<>()~]+)"""
_WORD = re.compile(rf"((?:{_PIECE})*)(?:\s*|\s+#.*)")


class NotPlain(ValueError):
    """The value is not simply written down; the message says which variable's."""


def parse(text: str) -> dict[str, str | None]:
    """Each variable's last value; None where only a shell could tell it."""
    found: dict[str, str | None] = {}
    begun = ""
    for raw in text.splitlines():
        line = begun + raw.strip()
        begun = ""
        if line.endswith("\\") and not line.startswith("#"):
            begun = line[:-1]
        elif match := _NAME.fullmatch(line):
            found[match[1]] = _value(match[2])
    return found


def value(variables: dict[str, str | None], name: str, default: str = "") -> str:
    """The variable's value, or `default` where it is not set or empty. Raises NotPlain."""
    told = variables.get(name, default)
    if told is None:
        raise NotPlain(f"{name} is set to something that only a shell can work out")
    return told or default


def _value(raw: str) -> str | None:
    # "A=#x" sets A to "#x": a comment needs a space before it.
    match = _WORD.fullmatch(raw)
    if match is None:
        return None
    pieces = re.findall(_PIECE, match[1])
    return "".join(
        single + re.sub(r'\\(["\\$`])', r"\1", double) + plain for single, double, plain in pieces
    )
