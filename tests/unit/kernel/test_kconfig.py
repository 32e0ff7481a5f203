# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's configuration, wherever it is kept."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kexecwatchd.kernel.kconfig import is_set

from .trees import populate

CONFIG = b"""#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_KEXEC=y
CONFIG_KEXEC_FILE=y
# CONFIG_IMA is not set
CONFIG_DM_CRYPT=m
CONFIG_DEFAULT_HOSTNAME="CONFIG_IMA=y"
"""
PLACES = ("proc/config.gz", "usr/lib/modules/6.12.48/config", "boot/config-6.12.48")


def machine(root: Path, place: str, config: bytes = CONFIG) -> Path:
    data = gzip.compress(config) if place.endswith(".gz") else config
    populate(root, {"proc/sys/kernel/osrelease": "6.12.48\n", place: data})
    return root


@pytest.mark.parametrize("place", PLACES)
def test_options(tmp_path: Path, place: str) -> None:
    root = machine(tmp_path, place)
    assert is_set(root, "KEXEC")
    for option in ("KEXEC_SIG", "KEX", "EXEC", "IMA", "DM_CRYPT"):
        assert is_set(root, option) is False


def test_the_running_kernels_own_word_comes_first(tmp_path: Path) -> None:
    for place in reversed(PLACES):
        machine(tmp_path, place, CONFIG if place == "proc/config.gz" else b"")
    assert is_set(tmp_path, "KEXEC")


@pytest.mark.parametrize("damage", [b"\x1f\x8b\x08", gzip.compress(CONFIG)[:-9], b"text"])
def test_a_damaged_file_is_passed_over(tmp_path: Path, damage: bytes) -> None:
    machine(tmp_path, "boot/config-6.12.48")
    populate(tmp_path, {"proc/config.gz": damage})
    assert is_set(tmp_path, "KEXEC")


def test_none_is_not_no(tmp_path: Path) -> None:
    assert is_set(tmp_path, "KEXEC") is None
    machine(tmp_path, "boot/config-6.1.0")
    assert is_set(tmp_path, "KEXEC") is None


def test_a_file_is_read_once_for_each_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine(tmp_path, "boot/config-6.12.48")
    is_set(root, "KEXEC")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    assert is_set(root, "KEXEC")
