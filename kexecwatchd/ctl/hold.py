# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl hold`: have no image loaded while a command, or a person, works on the machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pwd
import shlex
import signal
import sys
from collections.abc import Generator, Sequence
from typing import Any

from kexecwatchd.bus.names import LONGEST_TEXT
from kexecwatchd.ctl import output
from kexecwatchd.ctl.client import Client, connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.progress import waiting
from kexecwatchd.ctl.text import plain

HELP = "have no image loaded while COMMAND runs, or until this is interrupted"

# As shells have it.
_NOT_EXECUTABLE = 126
_NOT_FOUND = 127
_KILLED = 128

# A terminal sends these to the command as well.
_TERMINALS = (signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)

_Signals = asyncio.Queue[signal.Signals]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--who",
        metavar="TEXT",
        help="who holds, for all to see (default: the command's name, or yours)",
    )
    parser.add_argument(
        "--why", metavar="TEXT", help="what for, for all to see (default: the command)"
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="the command with its arguments; its exit code becomes this one's",
    )


async def run(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    async with connected() as daemon:
        async with waiting("waiting for the hold, which a load under way must end before:"):
            number = await daemon.hold(*_reasons(args, command))
        if command:
            return await _run(daemon, command)
        return await _wait(daemon, number)


def _reasons(args: argparse.Namespace, command: Sequence[str]) -> tuple[str, str]:
    """Who holds, and why."""
    who, why = args.who, args.why
    if who is None:
        name = os.path.basename(command[0]) if command else ""
        who = (name or _login())[:LONGEST_TEXT]
    if why is None:
        why = shlex.join(command)[:LONGEST_TEXT]
    return plain(who), plain(why)


def _login() -> str:
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


async def _wait(daemon: Client, number: int) -> ExitCode:
    """Hold until a signal ends it."""
    with _noted((signal.SIGINT, signal.SIGTERM)) as arrived:
        output.write(f"Hold {number} is taken: no image is loaded until this ends (Ctrl-C).")
        async with waiting("no image is loaded meanwhile:"):
            lost = await _lost_before(daemon, asyncio.ensure_future(arrived.get()))
    if lost:
        _say("the hold has ended: the system bus hung up")
        return ExitCode.UNREACHABLE
    return ExitCode.CURRENT


async def _run(daemon: Client, command: Sequence[str]) -> int:
    """Run it, and hold until it ends; its exit code."""
    with _noted((*_TERMINALS, *_PASSED_ON)) as arrived:
        try:
            process = await asyncio.create_subprocess_exec(*command)
        except OSError as error:
            _say(f"{plain(command[0])} cannot be run: {error.strerror}")
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        passing = asyncio.ensure_future(_pass_on(arrived, process))
        ending = asyncio.ensure_future(process.wait())
        if await _lost_before(daemon, ending):
            _say(
                "the hold has ended: the system bus hung up. Images may be loaded while"
                f" {plain(command[0])} goes on"
            )
        code = await ending
        passing.cancel()
    return code if code >= 0 else _KILLED - code


async def _lost_before(daemon: Client, end: asyncio.Future[Any]) -> bool:
    """Wait for `end`, or for the loss of the connection; whether it was that."""
    losing = asyncio.ensure_future(daemon.lost())
    await asyncio.wait((end, losing), return_when=asyncio.FIRST_COMPLETED)
    losing.cancel()
    return not end.done()


async def _pass_on(arrived: _Signals, process: asyncio.subprocess.Process) -> None:
    while True:
        number = await arrived.get()
        if number in _PASSED_ON:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


@contextlib.contextmanager
def _noted(numbers: Sequence[signal.Signals]) -> Generator[_Signals, None, None]:
    """Have these signals put into a queue, and end nothing. What is ignored (nohup) stays so."""
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    loop = asyncio.get_running_loop()
    arrived: _Signals = asyncio.Queue()
    for number in numbers:
        loop.add_signal_handler(number, arrived.put_nowait, number)
    try:
        yield arrived
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _say(text: str) -> None:
    print(f"kexecwatchctl: {text}", file=sys.stderr)
