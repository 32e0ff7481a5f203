# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl map`: the machine's memory as a picture. It looks itself and needs no daemon.

The picture is made of physical addresses, which are for root alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kexecwatchd.ctl import mapscreen, mapsvg, output
from kexecwatchd.ctl.client import AnswerError
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.survey import SurveyError, survey

HELP = "draw the memory map and where the images lie in it (root only; works without the daemon)"

# Columns. Twice 64 cells and an address: more of them in a row are no easier to read.
_WIDEST = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_json_option(parser)
    parser.add_argument(
        "--svg", metavar="FILE", type=Path, help="write an SVG image into FILE (mode 0600)"
    )


async def run(args: argparse.Namespace) -> ExitCode:
    """Raises AnswerError where there is nothing to show."""
    return show(as_json=args.json, svg=args.svg)


def show(*, as_json: bool, svg: Path | None, root: Path = Path("/")) -> ExitCode:
    """Look, and print or write the picture. It shows, it does not judge. Raises AnswerError."""
    if os.geteuid() != 0:
        raise AnswerError(
            "the map shows physical addresses, which are for root alone: run it as root"
        )
    try:
        picture = survey(root)
    except SurveyError as error:
        raise AnswerError(str(error)) from error
    if svg is not None:
        output.replace_file(svg, mapsvg.draw(picture).encode())
        # Beside the JSON, not in it.
        print(f"wrote {svg}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        output.write(picture.model_dump_json(indent=2))
    elif svg is None:
        width, colour = output.terminal(_WIDEST)
        output.write(mapscreen.render(picture, width=width, colour=colour))
    return ExitCode.CURRENT
