# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl collect FILE.tar`: what `check` reads of this machine, for `check --root`."""

from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
import time
from pathlib import Path

from kexecwatchd.checks import collection
from kexecwatchd.checks.collection import Collected
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.ctl import output
from kexecwatchd.ctl.client import AnswerError
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.text import counted

HELP = "collect what check reads of this machine, to look at it elsewhere (root)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE.tar", type=Path, help="the archive to write (mode 0600)"
    )
    parser.add_argument(
        "--with-addresses",
        action="store_true",
        help="physical addresses too, without which some checks cannot tell; mind who gets to see"
        " the archive",
    )


async def run(args: argparse.Namespace) -> ExitCode:
    """Raises AnswerError where there is no archive to be written."""
    if os.geteuid() != 0:
        raise AnswerError("much of what is collected is for root alone: run it as root")
    return write(args.file, Host(), with_addresses=args.with_addresses)


def write(path: Path, host: Host, *, with_addresses: bool) -> ExitCode:
    """Collect this machine into an archive. Raises AnswerError."""
    found = collection.collect(host, CHECKS, with_addresses=with_addresses)
    output.replace_file(path, _archive(found))
    for name, why in found.unreadable.items():
        print(f"not in it: {name}: {why}", file=sys.stderr)
    addresses = "with" if with_addresses else "without"
    output.write(
        f"wrote {path}: {counted(len(found.files), 'file')}, {addresses} physical addresses\n"
        f"To look at it elsewhere: mkdir machine && tar -C machine -xf {path.name} &&"
        " kexecwatchctl check --root machine"
    )
    return ExitCode.CURRENT


def _archive(found: Collected) -> bytes:
    now = int(time.time())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in sorted(found.files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), mode, now
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
