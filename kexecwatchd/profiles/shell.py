# SPDX-License-Identifier: GPL-2.0-or-later
"""What a shell makes of a text, as far as that needs no shell: words, and the quotes in them.

Nothing is expanded and nothing runs. Source: "Quoting" and "Token Recognition" in POSIX's Shell
Command Language; dash and bash agree on what is understood here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# An expansion whose end is plain to see; what is not is more than can be read here.
_EXPANSION = r"""\$\w+|\$\{\w+\}|\$\([^()'"`\\$]*\)|`[^`'"\\$]*`"""
_PIECE = re.compile(
    rf"""
      (?P<joined>\\\n)
    | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\$`]|\\.|{_EXPANSION})*)"
    | \\(?P<escaped>.)
    | (?P<expansion>{_EXPANSION})
    | (?P<plain>[^ \t\n'"\\$`;&|<>()]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_EXPANDED = re.compile(rf"\\.|({_EXPANSION})", re.DOTALL)


class NotPlain(ValueError):
    """It is not simply written down; the message says what is not."""


@dataclass(frozen=True, slots=True)
class Word:
    """`text`: without its quotes. `bare`: how many characters at its beginning had none.

    `known`: nothing in it would be expanded. `pattern`: it would be expanded unless it is assigned.
    """

    text: str
    bare: int
    known: bool
    pattern: bool


def commands(text: str) -> Iterator[tuple[int, list[Word]]]:
    """The simple commands, each with its line. Raises NotPlain at the first that is none."""
    if "\0" in text:
        raise NotPlain("it contains a NUL")
    words: list[Word] = []
    begun = at = 0
    while at < len(text):
        if text[at] in " \t" or text.startswith("\\\n", at):
            at += 1 if text[at] != "\\" else 2
        elif text[at] == "#":
            end = text.find("\n", at)
            at = end if end >= 0 else len(text)
        elif text[at] in "\n;":
            if words:
                yield text.count("\n", 0, begun) + 1, words
            elif text[at] == ";":
                raise _not_plain(text, at)
            words, at = [], at + 1
        else:
            begun = begun if words else at
            word, at = _word(text, at)
            words.append(word)
    if words:
        yield text.count("\n", 0, begun) + 1, words


def evaluated(command: str, matches: Callable[[str], bool]) -> list[str]:
    """The words of `eval $command`, where $command is split and expanded before it is evaluated.

    `matches`: are there files that a pattern means? Raises NotPlain.
    """
    fields = re.split(r"[ \t\n]+", command.strip(" \t\n"))
    for field in fields:
        # A backslash escapes in a pattern too, and some shells take it alone for one.
        if re.search(r"[*?[\\]", field) and (matches(field) or matches(field.replace("\\", ""))):
            raise NotPlain(f"a shell takes {field} for a pattern, and puts names of files there")
    return words(" ".join(fields))


def words(command: str) -> list[str]:
    """The words of one simple command. Raises NotPlain."""
    try:
        [(_, found)] = commands(command)
    except ValueError:
        raise NotPlain("only a shell can read the command that comes of it") from None
    if any(not word.known or word.pattern for word in found):
        raise NotPlain("only a shell can work out the command that comes of it")
    return [word.text for word in found]


def _word(text: str, begin: int) -> tuple[Word, int]:
    """The word that begins there, and where it ends."""
    value, bare, quoted, known, pattern, at = "", 0, False, True, False, begin
    while piece := _PIECE.match(text, at):
        at = piece.end()
        kind, content = str(piece.lastgroup), piece[str(piece.lastgroup)]
        if kind == "plain":
            bare += 0 if quoted else len(content)
            pattern = pattern or bool(re.search(r"[*?[{~]", content))
        if kind == "double":
            known = known and not any(_EXPANDED.findall(content))
            content = re.sub(r'\\(?:\n|(["\\$`]))', r"\1", content)
        quoted = quoted or kind not in ("plain", "joined")
        known = known and kind != "expansion"
        value += "" if kind == "joined" else content
    if at < len(text) and text[at] not in " \t\n;":
        raise _not_plain(text, at)
    return Word(value, bare, known, pattern), at


def _not_plain(text: str, at: int) -> NotPlain:
    line = text.count("\n", 0, at) + 1
    return NotPlain(f"line {line} is something that only a shell can read")
