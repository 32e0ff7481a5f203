# SPDX-License-Identifier: GPL-2.0-or-later
"""Python packages for guests, which have no network: what pip would fetch on Debian 12.

No index is named: pip knows its own. What comes as source only is built on the host.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from . import host
from .cache import Cache, Input
from .report import working

# Python and the C library of Debian 12.
_TARGET = (
    "--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311",
    "--abi=abi3", "--abi=none", "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64",
)  # fmt: skip


def fetch(cache: Cache, pins: Sequence[str], sources: Sequence[str]) -> list[Path]:
    """The wheels of these exact versions ("lz4==4.4.5"); `sources` are pure Python, to be built."""

    @working("fetching Python packages (some seconds)…")
    def make(directory: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        host.run([*pip, "download", "--no-deps", *_TARGET, "-d", directory, *pins])
        build = ["--no-deps", "--no-build-isolation", "--use-pep517"]
        host.run([*pip, "wheel", *build, "-w", directory, *sources])

    inputs: list[Input] = [Path(__file__), *pins, "built:", *sources]
    return sorted(cache.artefact("wheels", inputs, make).glob("*.whl"))
