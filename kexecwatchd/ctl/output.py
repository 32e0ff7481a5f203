# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the verbs' results go: standard output, as a screen or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import time

from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.screen import render
from kexecwatchd.report import Details, Status

# Columns. Wider lines are harder to read, narrower ones leave no room beside the labels.
_WIDEST = 100
_NARROWEST = 60


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def show(status: Status, details: Details | None, *, as_json: bool) -> ExitCode:
    """Print what a verb found; the exit code says whether every image is as it should be."""
    if as_json:
        document = status.model_dump(mode="json")
        if details is not None:
            document["details"] = details.model_dump(mode="json")
        _write(json.dumps(document, indent=2))
    else:
        columns = shutil.get_terminal_size().columns
        _write(
            render(
                status,
                details,
                now=time.time(),
                width=min(max(columns, _NARROWEST), _WIDEST),
                colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
            )
        )
    return ExitCode.CURRENT if status.covered else ExitCode.NOT_CURRENT


def _write(text: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console that cannot show a letter is no reason to show nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    # A reader that has seen enough (`| head -1`) takes nothing from the exit code.
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)
