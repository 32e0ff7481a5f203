# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl status`: what the daemon last saw, in one screen."""

from __future__ import annotations

import argparse

from kexecwatchd.ctl import output
from kexecwatchd.ctl.client import connected
from kexecwatchd.ctl.exitcodes import ExitCode

HELP = "show whether each image is current, what was done last, and what happens next"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_json_option(parser)


async def run(args: argparse.Namespace) -> ExitCode:
    async with connected() as daemon:
        status = await daemon.status()
    return output.show(status, None, as_json=args.json)
