# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration as a whole: whose files it comes from, and which are to be watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd import configured
from kexecwatchd.config import Config, Sources
from kexecwatchd.profiles import PROGRAMS
from tests.unit.kernel.trees import populate
from tests.unit.profiles.test_debian import DEFAULTS, machine

TOML = "etc/kexecwatchd/kexecwatchd.toml"
OURS = '[crash]\nkernel = "/boot/vmlinuz"\ncmdline = "quiet"\n'


def read(root: Path, toml: str, files: dict[str, str | bytes]) -> Config:
    populate(root, {TOML: toml, **files})
    (root / TOML).chmod(0o644)
    return configured.read(Sources(root))


@pytest.fixture(autouse=True)
def on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def test_the_tools_files_are_watched(tmp_path: Path) -> None:
    config = read(tmp_path, "", machine())
    assert config.crash.files is not None
    watched = configured.sources_of(config)
    assert Path(f"/{DEFAULTS}") in watched
    assert Path("/usr/sbin/kdump-config") in watched, "it may be removed"


def test_without_a_tool_one_may_come(tmp_path: Path) -> None:
    config = read(tmp_path, "", {})
    assert config.crash.files is None
    assert set(configured.sources_of(config)) == set(PROGRAMS)


def test_where_a_kernel_is_ours_no_tool_matters(tmp_path: Path) -> None:
    assert configured.sources_of(read(tmp_path, OURS, machine())) == ()


def test_completed_again_it_is_what_the_tool_says_by_then(tmp_path: Path) -> None:
    first = read(tmp_path, '[crash]\nmode = "ensure"\n', machine())
    populate(tmp_path, {DEFAULTS: "USE_KDUMP=0\n"})
    second = configured.complete(first.toml, Sources(tmp_path))
    assert second.crash.files is None
    assert "switched off" in second.crash.none
    assert second.toml == first.toml
    populate(tmp_path, machine())
    assert configured.complete(second.toml, Sources(tmp_path)) == first
