# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl exec`: start the reboot image if it is fit to be started at this very moment."""

from __future__ import annotations

import argparse
import asyncio
import sys

from kexecwatchd.ctl import output
from kexecwatchd.ctl.client import AnswerError, connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.progress import waiting
from kexecwatchd.ctl.text import plain
from kexecwatchd.model import ImageName
from kexecwatchd.report import ImageStatus

HELP = "look at the machine afresh, and start the reboot image if it is safe (systemctl kexec)"

# systemd's own way: logind asks for rights and heeds inhibitors, services are stopped in order,
# file systems are unmounted.
COMMAND = ("systemctl", "kexec")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


async def run(args: argparse.Namespace) -> ExitCode:
    async with connected() as daemon:
        async with waiting("the machine is being looked at:"):
            await daemon.verify()
        status = await daemon.status()
    image = next(i for i in status.images if i.image is ImageName.REBOOT)
    if "start_obstacle" not in image.model_fields_set:
        raise AnswerError(
            f"kexecwatchd {status.daemon_version} does not say whether the reboot image may be"
            " started: systemctl restart kexecwatchd   (loaded images stay)"
        )
    if image.start_obstacle:
        print(f"kexecwatchctl: {_refusal(image)}", file=sys.stderr)
        return ExitCode.NOT_CURRENT
    output.write(f"The reboot image is {image.state}: {plain(image.reason)}.")
    command = " ".join(COMMAND)
    if args.dry_run:
        output.write(f"It would be started now: {command}")
        return ExitCode.CURRENT
    output.write(f"Starting it: {command}")
    return await _start()


def _refusal(image: ImageStatus) -> str:
    lines = [f"the reboot image is not started: {plain(image.start_obstacle)}"]
    if image.next_step:
        lines.append(f"  what kexecwatchd does next:   {plain(image.next_step)}")
    lines += [
        "  what it knows of the image:   kexecwatchctl status",
        # Plain `systemctl reboot` would start the image that is loaded (seen with systemd 257).
        "  reboot through the firmware:  SYSTEMCTL_SKIP_AUTO_KEXEC=1 systemctl reboot",
    ]
    return "\n".join(lines)


async def _start() -> ExitCode:
    """Hand over to systemd. Its own messages, and polkit's questions, go to the terminal."""
    try:
        process = await asyncio.create_subprocess_exec(*COMMAND)
    except OSError as error:
        raise AnswerError(f"{COMMAND[0]} cannot be run: {error.strerror}") from error
    code = await process.wait()
    if code:
        raise AnswerError(f"{' '.join(COMMAND)} failed with exit code {code}; it has said why")
    return ExitCode.CURRENT
