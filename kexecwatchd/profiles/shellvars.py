# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of shell variables, such as /etc/default/kdump-tools, read without running them.

What is taken: NAME=value, several in a line, the value bare or in quotes, with export before it and
a comment behind it. What a shell would have to work out ($, backquotes) is a value that is not
known; where there is any other command, nothing is known, for it could set or end anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kexecwatchd.profiles import shell
from kexecwatchd.profiles.shell import NotPlain, Word

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")


@dataclass(frozen=True, slots=True)
class Variables:
    """Each variable's last value, None where only a shell could tell it. `obscure`: why nothing is
    known, "" = something is."""

    values: Mapping[str, str | None]
    obscure: str = ""

    def value(self, name: str, default: str = "") -> str:
        """The variable's value, or `default` where it is not set or empty. Raises NotPlain."""
        if self.obscure:
            raise NotPlain(self.obscure)
        told = self.values.get(name, default)
        if told is None:
            raise NotPlain(f"{name} is set to something that only a shell can work out")
        return told or default


def parse(text: str) -> Variables:
    found: dict[str, str | None] = {}
    try:
        for line, words in shell.commands(text):
            exported = words[0].text == "export" and words[0].bare == len("export")
            for word in words[exported:]:
                assigned = _ASSIGNMENT.match(word.text, 0, word.bare)
                if assigned:
                    found[assigned[1]] = _value(word, assigned.end(), exported=exported)
                elif not exported or not _NAME.fullmatch(word.text):
                    raise NotPlain(f"line {line} is more than an assignment")
    except NotPlain as error:
        return Variables({}, str(error))
    return Variables(found)


def _value(word: Word, begin: int, *, exported: bool) -> str | None:
    # ~ is expanded in an assignment too, and some shells expand all patterns behind export.
    expanded = word.pattern and (exported or "~" in word.text)
    return word.text[begin:] if word.known and not expanded else None
