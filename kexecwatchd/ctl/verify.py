# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl verify`: have the daemon look at the machine afresh, then show what it saw.

Where no daemon answers, root gets what kexecwatchctl sees itself.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kexecwatchd.ctl import output, standin
from kexecwatchd.ctl.client import UnreachableError, connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.progress import waiting

HELP = "look at the machine afresh; as root, show the address ranges too, even without the daemon"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_json_option(parser)


async def run(args: argparse.Namespace, root: Path = Path("/")) -> ExitCode:
    """`root`: where the machine's files are, for a look without the daemon."""
    as_root = os.geteuid() == 0
    try:
        async with connected() as daemon:
            async with waiting("the machine is being looked at:"):
                await daemon.verify()
            status = await daemon.status()
            details = await daemon.details() if as_root else None
    except UnreachableError as silence:
        if not as_root:
            raise
        status, details = standin.look(root, silence)
    return output.show(status, details, as_json=args.json)
