# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees on a guest's terminal, as text and as a picture (SVG)."""

from __future__ import annotations

import io
import shlex

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.vm.lab.machine import Machine

COLUMNS = 100

_THEME = TerminalTheme(
    (24, 26, 31),
    (212, 215, 221),
    [
        (24, 26, 31), (224, 92, 92), (111, 191, 115), (218, 178, 85),
        (97, 150, 219), (186, 120, 204), (88, 182, 192), (212, 215, 221),
    ],
    [
        (110, 116, 128), (240, 113, 113), (137, 214, 141), (236, 200, 112),
        (129, 178, 240), (209, 147, 226), (117, 208, 217), (245, 246, 248),
    ],
)  # fmt: skip

# Without rich's own format, which has a browser fetch a font. The names in braces are rich's.
_SVG = """<svg xml:space="preserve" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px;
  line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 16px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def seen(vm: Machine, command: str) -> str:
    """What `command`, run on a terminal of COLUMNS columns, writes; colours are escape sequences.

    Standard input is no terminal, as for a person who has sent it to the background.
    """
    inner = f"stty cols {COLUMNS} rows 50; export TERM=xterm-256color; {command}"
    outer = f"script -qec {shlex.quote(inner)} /dev/null </dev/null"
    return vm.run(outer, check=False).text.replace("\r", "").rstrip("\n")


def plain(screen: str) -> str:
    """The screen without its colours."""
    return "\n".join(line.rstrip() for line in Text.from_ansi(screen).plain.splitlines())


def picture(screen: str, title: str, name: str) -> str:
    """The screen as an SVG document; `name` is unique among those on one page."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False
    )
    console.print(Text.from_ansi(screen), soft_wrap=True)
    svg = console.export_svg(title=title, theme=_THEME, code_format=_SVG, unique_id=name)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
