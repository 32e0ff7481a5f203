# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual's source, turned into man(7).

    # SECTION and ## Subsection
    - term                  of a list; its text follows, two columns further in
        code                four columns further in than the text around it, kept as it is
    `typed as it is` and *stands for something*

Anything else is text; an empty line ends a paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_INLINE = re.compile(r"`([^`]+)`|\*([^*\s](?:[^*]*[^*\s])?)\*")
_ESCAPES = str.maketrans(
    {"\\": r"\e", "~": r"\(ti", "^": r"\(ha", "`": r"\(ga", '"': r"\(dq", "'": r"\(aq"}
)


def roff(source: str) -> str:
    """The body of a page, after its title line."""
    return "\n".join(_blocks(source.splitlines())) + "\n"


def escaped(text: str, *, typed: bool = False) -> str:
    """`text` for roff; `typed`: with hyphens that can be copied to a command line."""
    text = text.translate(_ESCAPES)
    return text.replace("-", r"\-") if typed else re.sub(r"(?<!\w)-", r"\\-", text)


def _blocks(lines: Sequence[str], *, fresh: bool = False) -> list[str]:
    """`fresh`: a heading or a term has begun the paragraph already."""
    made: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line:
            at += 1
            continue
        if line.startswith("#"):
            marks, _, title = line.partition(" ")
            made.append(f'.{"SH" if marks == "#" else "SS"} "{_inline(title)}"')
            fresh, at = True, at + 1
            continue
        kind = "- " if line.startswith("- ") else "    " if line.startswith("    ") else ""
        end = _end(lines, at + 1, _BELONGS[kind])
        block = lines[at:end]
        if kind == "- ":
            made += _item(block, after_term=bool(made) and made[-1] == _NO_TEXT)
        elif kind:
            made += _code([text[4:] for text in block])
        else:
            made += [*([] if fresh else [".PP"]), *map(_line, block)]
        fresh, at = False, end
    return [line for line in made if line != _NO_TEXT]


# A term without a text: the next one shares its own.
_NO_TEXT = "no text"

_BELONGS: dict[str, Callable[[str], bool]] = {
    "- ": lambda text: not text or text.startswith("  "),
    "    ": lambda text: not text or text.startswith("    "),
    "": lambda text: bool(text) and not text.startswith(("- ", "#", "    ")),
}


def _end(lines: Sequence[str], at: int, belongs: Callable[[str], bool]) -> int:
    while at < len(lines) and belongs(lines[at]):
        at += 1
    return at


def _item(block: Sequence[str], *, after_term: bool) -> list[str]:
    term, *rest = block
    made = [".TQ" if after_term else ".TP", _line(term[2:])]
    body = [text[2:] for text in rest]
    while body and not body[-1]:
        body.pop()
    if not body:
        return [*made, _NO_TEXT]
    first = 0 if body[0].startswith(("- ", "    ")) else _end(body, 0, _BELONGS[""])
    made += [_line(text) for text in body[:first]] or [r"\&"]
    if more := _blocks(body[first:]):
        made += [".RS", *more, ".RE"]
    return made


def _code(block: Sequence[str]) -> list[str]:
    text = "\n".join(block).rstrip()
    lines = [_guarded(escaped(line, typed=True)) for line in text.splitlines()]
    return [".IP", ".EX", *lines, ".EE"]


def _line(text: str) -> str:
    return _guarded(_inline(text.strip()))


def _guarded(text: str) -> str:
    """roff takes a line that begins so for a request."""
    return rf"\&{text}" if text.startswith((".", r"\(aq")) else text


def _inline(text: str) -> str:
    made, at = "", 0
    for match in _INLINE.finditer(text):
        typed, meant = match.groups()
        font = rf"\fB{escaped(typed, typed=True)}\fR" if typed else rf"\fI{escaped(meant)}\fR"
        made += escaped(text[at : match.start()]) + font
        at = match.end()
    return made + escaped(text[at:])
