# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages for guests, which have no network: the .deb files, to be installed with dpkg.

With what they depend on and the guest's system does not have; without what they recommend. No
mirror is named: mmdebstrap finds one from the suite's name.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from . import base, host
from .cache import Cache, Input
from .report import LabError, working


def fetch(cache: Cache, names: Sequence[str]) -> list[Path]:
    """The packages' files, in the order of their names; from the cache or from the archive."""
    root = base.build(cache)
    inputs: list[Input] = [Path(__file__), root.parent.name, *names]

    @working(f"fetching {', '.join(names)} and what they need (some seconds)…")
    def make(directory: Path) -> None:
        _fetch(names, root, directory)

    directory = cache.artefact("packages", inputs, make)
    return sorted(directory.glob("*.deb"))


def _fetch(names: Sequence[str], root: Path, directory: Path) -> None:
    present = _installed(root)
    download(base.SUITE, names, directory)
    for file in directory.glob("*.deb"):
        if file.name.partition("_")[0] in present:
            file.unlink()
    missing = [name for name in names if not any(directory.glob(f"{name}_*.deb"))]
    if missing:
        raise LabError(f"mmdebstrap left no package of {', '.join(missing)} behind")


def download(suite: str, names: Sequence[str], directory: Path) -> None:
    """Put the packages of that suite, and all that they depend on, into `directory`."""
    archive = directory / "packages.tar"
    host.run(
        [
            "mmdebstrap",
            "--variant=extract",
            f"--include={','.join(names)}",
            # What was downloaded stays in the archive.
            "--skip=cleanup/apt/cache",
            suite,
            archive,
        ],
        log=directory / "mmdebstrap.log",
    )
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".deb"):
                file = tar.extractfile(member)
                assert file is not None
                (directory / Path(member.name).name).write_bytes(file.read())
    archive.unlink()


def _installed(root: Path) -> set[str]:
    """The packages that the guest's root file system has."""
    with tarfile.open(root) as tar:
        file = tar.extractfile("./var/lib/dpkg/status")
        assert file is not None
        return set(re.findall(r"^Package: (\S+)$", file.read().decode(), re.MULTILINE))
