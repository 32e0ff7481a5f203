# SPDX-License-Identifier: GPL-2.0-or-later
"""Unit files and their drop-ins; what a SystemCallFilter= permits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.checks.sources.units import assignments, files, permits_kexec
from tests.unit.kernel.trees import populate

UNIT = "foo-bar.service"
VENDOR = f"usr/lib/systemd/system/{UNIT}"


def values(root: Path, tree: dict[str, str | bytes]) -> list[str] | None:
    populate(root, tree)
    return assignments(root, UNIT, "Key")


def test_no_unit(tmp_path: Path) -> None:
    assert values(tmp_path, {f"{VENDOR}.d/a.conf": "[Service]\nKey=1\n"}) is None


def test_the_administrators_file_hides_the_vendors(tmp_path: Path) -> None:
    tree: dict[str, str | bytes] = {
        VENDOR: "[Service]\nKey=1\n",
        f"etc/systemd/system/{UNIT}": "[Unit]\nKey=0\n[Service]\n# Key=9\n Key = 2 3\\\n 4\nKey=\n",
    }
    assert values(tmp_path, tree) == ["2 3 4", ""]


def test_what_is_a_value_and_what_is_none(tmp_path: Path) -> None:
    text = "[Service]\n# \\\nKey=[1]\nOther=0\nKey\nKey=2\\\n; no end\n3\n[Install]\nKey=0\n"
    assert values(tmp_path, {VENDOR: text}) == ["[1]", "2 3"]


def test_masked(tmp_path: Path) -> None:
    link = tmp_path / f"etc/systemd/system/{UNIT}"
    link.parent.mkdir(parents=True)
    link.symlink_to("/dev/null")
    assert values(tmp_path, {VENDOR: "[Service]\nKey=1\n"}) is None


def test_drop_ins_come_by_name_from_everywhere(tmp_path: Path) -> None:
    tree: dict[str, str | bytes] = {
        VENDOR: "[Service]\nKey=unit\n",
        f"{VENDOR}.d/20.conf": "[Service]\nKey=vendor 20\n",
        f"{VENDOR}.d/30.conf": "[Service]\nKey=hidden\n",
        f"etc/systemd/system/{UNIT}.d/30.conf": "[Service]\nKey=admin 30\n",
        "run/systemd/system/foo-.service.d/25.conf": "[Service]\nKey=prefix 25\n",
        "etc/systemd/system/service.d/10.conf": "[Service]\nKey=all 10\n",
        "etc/systemd/system/service.d/20.conf": "[Service]\nKey=hidden by its own\n",
        f"{VENDOR}.d/40.conf.dpkg-new": "[Service]\nKey=none\n",
    }
    assert values(tmp_path, tree) == ["unit", "all 10", "vendor 20", "prefix 25", "admin 30"]


def test_what_is_collected_is_all_that_is_read() -> None:
    assert f"etc/systemd/system/{UNIT}.d/*.conf" in files(UNIT)
    assert "usr/lib/systemd/system/service.d/*.conf" in files(UNIT)
    assert VENDOR in files(UNIT)
    names = [name for name in files("a-b-c.service") if name.startswith("run/")]
    assert [name.split("/")[3] for name in names] == [
        "a-b-c.service", "a-b-c.service.d", "a-b-.service.d", "a-.service.d", "service.d"
    ]  # fmt: skip


FILTERS: tuple[tuple[list[str], bool, bool], ...] = (
    # assignments, kexec_load, kexec_file_load
    ([], True, True),
    (["@system-service @module @raw-io bpf", "~@clock"], False, False),
    (["@system-service", "@reboot"], True, True),
    (["@system-service", "kexec_load"], True, False),
    (["@system-service @reboot", "~kexec_file_load"], True, False),
    (["@system-service @reboot", "~kexec_file_load:EPERM"], True, False),
    (["@system-service @reboot:EPERM"], False, False),
    (["~@clock"], True, True),
    (["~@reboot"], False, False),
    (["~@privileged:EPERM"], False, False),
    (["~@reboot", "kexec_file_load"], False, True),
    (["@known"], True, True),
    (["@system-service", ""], True, True),
    (["@system-service", "", "~@reboot"], False, False),
    (["@reboot", "", "@system-service"], False, False),
    (["~"], True, True),
)


@pytest.mark.parametrize(("filters", "load", "file_load"), FILTERS)
def test_filters(filters: list[str], load: bool, file_load: bool) -> None:
    assert permits_kexec(filters, "kexec_load") is load
    assert permits_kexec(filters, "kexec_file_load") is file_load


@given(st.lists(st.text(alphabet="~@ :kexcrbot_ladp")))
def test_after_an_empty_assignment_all_is_permitted(filters: list[str]) -> None:
    assert permits_kexec([*filters, ""], "kexec_load")
