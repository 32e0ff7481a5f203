# SPDX-License-Identifier: GPL-2.0-or-later
"""The wheel: all that make install puts on a machine is in it, and each build is the same."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.test_install import PACKAGE, SOURCE, make

DATA = "kexecwatchd/data/"
# The configuration is on a machine twice; and links, which no wheel can have, are made anew.
VENDOR_CONFIG = "usr/lib/kexecwatchd/kexecwatchd.toml"


def build(directory: Path) -> Path:
    hatchling = ["hatchling", "build", "-t", "wheel"]
    command = [sys.executable, "-m", *hatchling, "-d", str(directory)]
    subprocess.run(command, cwd=SOURCE, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def test_it_has_what_make_install_installs(wheel: Path, tmp_path: Path) -> None:
    make("install", tmp_path)
    installed = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    del installed[VENDOR_CONFIG]
    modules = PACKAGE.removesuffix("kexecwatchd")
    with zipfile.ZipFile(wheel) as archive:
        carried = {
            name.removeprefix(DATA) if name.startswith(DATA) else modules + name: archive.read(name)
            for name in archive.namelist()
            if name.startswith("kexecwatchd/")
        }
    assert carried == installed


def test_it_is_the_same_each_time(wheel: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == wheel.read_bytes()
