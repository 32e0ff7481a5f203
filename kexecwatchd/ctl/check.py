# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl check`: will a dump, or a kexec, work on this machine? It needs no daemon."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kexecwatchd import __version__
from kexecwatchd.checks import doctor
from kexecwatchd.checks.check import Answer, Check
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.ctl import checkscreen, output
from kexecwatchd.ctl.client import AnswerError
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.report import CheckReport

HELP = "look for what makes dumps and kexecs fail, before they do (root; works without the daemon)"

_WIDEST = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_json_option(parser)
    parser.add_argument(
        "checks",
        metavar="NAME",
        nargs="*",
        type=_check,
        help="ask these checks only, and explain what they found; of: "
        + ", ".join(check.name for check in CHECKS),
    )
    parser.add_argument(
        "--explain", action="store_true", help="explain every answer, and say what to do"
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="look at the machine whose files are in DIR (see collect), not at this one",
    )


async def run(args: argparse.Namespace) -> ExitCode:
    """Raises AnswerError where nothing can be asked."""
    host = _host(args.root)
    report = CheckReport(
        version=__version__,
        root=str(args.root or ""),
        results=doctor.ask(host, args.checks or CHECKS),
    )
    if args.json:
        output.write(report.model_dump_json(indent=2))
    else:
        width, colour = output.terminal(_WIDEST)
        explain = args.explain or bool(args.checks)
        output.write(
            checkscreen.render(report.results, explain=explain, width=width, colour=colour)
        )
    failed = any(result.answer == Answer.PROBLEM for result in report.results)
    return ExitCode.NOT_CURRENT if failed else ExitCode.CURRENT


def _check(name: str) -> Check:
    known = {check.name: check for check in CHECKS}
    if name not in known:
        raise argparse.ArgumentTypeError(f"no check {name!r}; there are: {', '.join(known)}")
    return known[name]


def _host(root: Path | None) -> Host:
    if root is None:
        if os.geteuid() != 0:
            raise AnswerError("much of what the checks look at is for root alone: run it as root")
        return Host()
    if not root.is_dir():
        raise AnswerError(f"{root} is no directory: unpack what kexecwatchctl collect wrote")
    return Host(root, live=False)
