# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl history`: what was decided in this boot, the newest last."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kexecwatchd import ledger
from kexecwatchd.ctl import historyscreen, output
from kexecwatchd.ctl.client import AnswerError, UnreachableError, connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.kernel import kexec_state
from kexecwatchd.model import ImageName
from kexecwatchd.report import History

HELP = "show what was decided since boot, why, and what came of it; the newest last"

# Columns.
_WIDEST = 100

_ROOT = Path("/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image",
        metavar="IMAGE",
        nargs="?",
        choices=[image.value for image in ImageName],
        help="crash or reboot: only what concerns this image",
    )
    parser.add_argument(
        "-n", "--lines", metavar="N", type=_count, help="the last N decisions instead of all"
    )
    output.add_json_option(parser)


async def run(args: argparse.Namespace) -> ExitCode:
    """Raises AnswerError, and UnreachableError where the ledger is not for us to read either."""
    image = ImageName(args.image) if args.image else None
    history = chosen(await _history(), image, args.lines)
    if args.json:
        output.write(history.model_dump_json(indent=2))
    else:
        width, colour = output.terminal(_WIDEST)
        output.write(historyscreen.render(history.decisions, width=width, colour=colour))
    return ExitCode.CURRENT


def chosen(history: History, image: ImageName | None, last: int | None) -> History:
    """The `last` decisions of this image and of both, None: all of them, of any."""
    decisions = [d for d in history.decisions if image is None or d.image in (None, image)]
    if last is not None:
        decisions = decisions[-last:]
    return history.model_copy(update={"decisions": decisions})


def from_ledger(root: Path) -> History:
    """What the daemon wrote down in this boot, for root to read. Raises AnswerError."""
    path = root / "run/kexecwatchd/ledger.json"
    # A ledger that cannot be read counts as none for the daemon, but not for who asks for it.
    known, trouble = ledger.read(path, kexec_state.boot_id(root))
    if trouble:
        raise AnswerError(f"kexecwatchd is not running, and {trouble}")
    return History(decisions=list(known.decisions))


async def _history() -> History:
    try:
        async with connected() as daemon:
            return await daemon.history()
    except UnreachableError as error:
        if os.geteuid() != 0:
            raise
        print(f"kexecwatchctl: from the ledger, because {_sentence(error)}", file=sys.stderr)
        return from_ledger(_ROOT)


def _sentence(error: UnreachableError) -> str:
    return str(error).splitlines()[0]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of decisions: 1 or more")
    return int(text)
