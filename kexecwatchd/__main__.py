# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchd: reads the command line and the configuration, then runs the daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kexecwatchd import __version__, configured
from kexecwatchd.config import ConfigError, Sources, check_files
from kexecwatchd.daemon import Daemon


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kexecwatchd",
        description="Keeps the loaded crash and reboot images right while memory comes and goes.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="read this file alone, instead of the vendor's, /etc's and the drop-ins",
    )
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="check the configuration and the files that it names, say what is wrong, and end",
    )
    parser.add_argument("--version", action="version", version=f"kexecwatchd {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0; 1 for missing rights, or what --check-config found; 2 for usage.

    And EX_CONFIG (78) where the daemon cannot start because of its configuration: the unit's
    RestartPreventExitStatus= takes it for what no restart will cure.
    """
    options = make_parser().parse_args(argv)
    sources = Sources(explicit=options.config)
    try:
        config = configured.read(sources)
    except ConfigError as error:
        return _complain(error.problems, 1 if options.check_config else os.EX_CONFIG)
    if options.check_config:
        return _complain(check_files(config))
    if os.geteuid() != 0:
        return _complain(
            ["kexecwatchd must run as root: start it with systemctl start kexecwatchd"]
        )

    async def serve() -> None:
        await Daemon(sources, config).run()

    asyncio.run(serve())
    return 0


def _complain(problems: Sequence[str], code: int = 1) -> int:
    for problem in problems:
        print(f"kexecwatchd: {problem}", file=sys.stderr)
    return code if problems else 0


if __name__ == "__main__":
    sys.exit(main())
