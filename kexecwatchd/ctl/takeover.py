# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl takeover`: switch another tool's reload rule off, or on again."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kexecwatchd import takeover
from kexecwatchd.checks import rivals
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.rivals import Rival
from kexecwatchd.checks.sources import daemon
from kexecwatchd.ctl import output
from kexecwatchd.ctl.client import AnswerError, UnreachableError, connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.model import ImageName
from kexecwatchd.takeover import OVERRIDES, TakeoverError

HELP = "switch off the udev rule by which another tool loads the crash image too (root)"

# What has udev read its rules again.
COMMAND = ("udevadm", "control", "--reload")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--revert", action="store_true", help="switch on again what takeover switched off"
    )


async def run(args: argparse.Namespace) -> ExitCode:
    if os.geteuid() != 0:
        raise AnswerError("udev's rules are root's business: run it as root")
    return await (revert(Path("/")) if args.revert else take(Host()))


async def take(host: Host) -> ExitCode:
    """Switch the rules off. Raises AnswerError."""
    try:
        found = rivals.in_force(host)
        off = takeover.switched_off(host.root)
        if not found:
            output.write(_nothing(off))
            return ExitCode.CURRENT
        _require_ours(host, found)
        names = [rival.path.rpartition("/")[2] for rival in found]
        takeover.take(host.root, names)
    except (CannotTell, OSError, TakeoverError) as error:
        raise AnswerError(f"nothing is switched off: {error}") from error
    await _make_known()
    output.write(
        "\n".join(f"Switched off: {rival.path} ({rival.tool})" for rival in found)
        + f"\n  by a link of its name to /dev/null in /{OVERRIDES}; nothing else was changed"
        + "\n  switch it on again:  kexecwatchctl takeover --revert"
    )
    return ExitCode.CURRENT


async def revert(root: Path) -> ExitCode:
    """Switch them on again. Raises AnswerError."""
    try:
        back, others = takeover.revert(root)
    except (OSError, TakeoverError) as error:
        raise AnswerError(str(error)) from error
    for name in others:
        left = f"/{OVERRIDES}/{name} is no longer the link that takeover made: it is left alone"
        print(f"kexecwatchctl: {left}", file=sys.stderr)
    if not back:
        output.write("Nothing is switched off by takeover.")
        return ExitCode.CURRENT
    await _make_known()
    output.write("\n".join(f"Switched on again: {name}" for name in back))
    return ExitCode.CURRENT


def _nothing(off: Sequence[str]) -> str:
    if off:
        return f"Already switched off: {', '.join(off)}."
    return "No udev rule of another tool loads the crash image: there is nothing to switch off."


def _require_ours(host: Host, found: Sequence[Rival]) -> None:
    """Raises TakeoverError where nobody would keep the image right, or the rule is not a package's.

    A machine whose only reload rule was switched off would miss its memory in every dump.
    """
    for rival in found:
        if rival.path.startswith(f"/{OVERRIDES}/"):
            raise TakeoverError(
                f"{rival.path} is the administrator's own file, not a package's: remove it yourself"
            )
    if not daemon.tends(host, ImageName.CRASH):
        raise TakeoverError(
            "kexecwatchd does not keep the crash image right on this machine."
            f" {daemon.tend_crash(host)}"
        )


async def _make_known() -> None:
    """Have udev and the daemon take note. Raises AnswerError where udev does not."""
    await _reload()
    with contextlib.suppress(UnreachableError, AnswerError):  # it sees for itself within a minute
        async with connected() as running:
            await running.verify()


async def _reload() -> None:
    """udev's own messages go to the terminal. Raises AnswerError."""
    command = " ".join(COMMAND)
    try:
        process = await asyncio.create_subprocess_exec(*COMMAND)
    except OSError as error:
        why = error.strerror
    else:
        code = await process.wait()
        if not code:
            return
        why = f"exit code {code}"
    raise AnswerError(f"the link is as it should be, but udev was not told: {command}: {why}")
