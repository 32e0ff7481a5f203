# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl verify`: have the daemon look at the machine afresh, then show what it saw."""

from __future__ import annotations

import argparse
import os

from kexecwatchd.ctl import output
from kexecwatchd.ctl.client import connected
from kexecwatchd.ctl.exitcodes import ExitCode

HELP = "look at the machine afresh; as root, show the address ranges too"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_json_option(parser)


async def run(args: argparse.Namespace) -> ExitCode:
    async with connected() as daemon:
        await daemon.verify()
        status = await daemon.status()
        details = await daemon.details() if os.geteuid() == 0 else None
    return output.show(status, details, as_json=args.json)
