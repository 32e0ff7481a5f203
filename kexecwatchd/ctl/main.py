# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchctl's entry: arguments in, exit code out."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from kexecwatchd import __version__
from kexecwatchd.ctl import (
    check,
    collect,
    config,
    discard,
    history,
    hold,
    install_units,
    mode,
    monitor,
    output,
    reload,
    status,
    takeover,
    verify,
)
from kexecwatchd.ctl import exec as exec_verb
from kexecwatchd.ctl import map as memory_map
from kexecwatchd.ctl.client import AnswerError, UnreachableError
from kexecwatchd.ctl.exitcodes import ExitCode

VERBS = {
    "status": status,
    "verify": verify,
    "map": memory_map,
    "check": check,
    "collect": collect,
    "reload": reload,
    "discard": discard,
    "mode": mode,
    "hold": hold,
    "history": history,
    "monitor": monitor,
    "config": config,
    "exec": exec_verb,
    "takeover": takeover,
    "install-units": install_units,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run kexecwatchctl with `argv` (default: the command line) and return its exit code."""
    _open_missing_streams()
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as done:  # --help, --version, or a usage error that argparse has explained
        output.settle()
        return ExitCode.CURRENT if not done.code else ExitCode.USAGE
    try:
        code: int = asyncio.run(VERBS[args.verb].run(args))
        return code
    except UnreachableError as error:
        return _fail(error, ExitCode.UNREACHABLE)
    except AnswerError as error:
        return _fail(error, ExitCode.ERROR)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _open_missing_streams() -> None:
    """Whoever was started with closed streams (`>&-`) reads nothing, and writes nowhere."""
    for name, how in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, how, encoding="utf-8"))  # noqa: SIM115


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        # As from Python 3.12 on: whoever reads the help no further gets no traceback.
        with contextlib.suppress(OSError):
            super()._print_message(message, file)


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kexecwatchctl",
        description="Are the loaded crash and reboot images right for this machine's memory?",
        epilog=_exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        verb.add_arguments(
            verbs.add_parser(name, help=verb.HELP, description=verb.HELP, allow_abbrev=False)
        )
    return parser


def _exit_codes() -> str:
    """The table of ExitCode, for the end of --help."""
    lines = [
        textwrap.fill(code.meaning, 90, initial_indent=f"  {code}  ", subsequent_indent="     ")
        for code in ExitCode
    ]
    return "\n".join(["exit codes:", *lines])


def _fail(error: Exception, code: ExitCode) -> ExitCode:
    print(f"kexecwatchctl: {error}", file=sys.stderr)
    return code
