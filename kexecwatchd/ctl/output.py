# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the verbs' results go: standard output, as a screen or as JSON."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from kexecwatchd.ctl.client import AnswerError
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.screen import render
from kexecwatchd.report import Details, Status, StatusDocument

# Columns. Wider lines are harder to read, narrower ones leave no room beside the labels.
_WIDEST = 100
_NARROWEST = 60


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def show(status: Status, details: Details | None, *, as_json: bool) -> ExitCode:
    """Print what a verb found; the exit code says whether every image is as it should be."""
    if as_json:
        document = StatusDocument(**dict(status), details=details)
        without = {"details"} if details is None else set()
        write(document.model_dump_json(indent=2, exclude=without))
    else:
        width, colour = terminal(_WIDEST)
        write(render(status, details, now=time.time(), width=width, colour=colour))
    return ExitCode.CURRENT if status.covered else ExitCode.NOT_CURRENT


def terminal(widest: int) -> tuple[int, bool]:
    """How many columns to write, `widest` at most, and whether in colour."""
    columns = shutil.get_terminal_size().columns
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return min(max(columns, _NARROWEST), widest), colour


def write(text: str) -> bool:
    """Print it, whatever the console can show; False where nobody reads any more.

    Raises AnswerError where it cannot be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console that cannot show a letter is no reason to show nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # A reader that has seen enough (`| head -1`) takes nothing from the exit code.
        _give_up(sys.stdout)
        return False
    except OSError as error:
        _give_up(sys.stdout)
        raise AnswerError(f"the result cannot be written: {error.strerror}") from error
    return True


def settle() -> None:
    """Have nothing left to be written at exit, where an error would be a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    # What is left in the buffer would be tried again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Replace the file by one that only its owner can read. Raises AnswerError.

    Whoever holds the old file open, or made the name a link, gets nothing.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise AnswerError(f"{path} is not written: it is no regular file; name another")
        handle, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(new, path)
        except OSError:
            os.unlink(new)
            raise
    except OSError as error:
        raise AnswerError(f"{path} cannot be written: {error.strerror}") from error
