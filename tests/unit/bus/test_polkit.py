# SPDX-License-Identifier: GPL-2.0-or-later
"""What polkit is told of us: the shipped policy has the actions that the daemon asks about."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from kexecwatchd.bus import names
from kexecwatchd.bus.polkit import Right
from kexecwatchd.bus.service import Manager

POLICY = Path(__file__).resolve().parents[3] / "dbus" / "org.kexecwatch1.policy"


def test_the_policy_has_each_action_and_no_other() -> None:
    root = ElementTree.parse(POLICY).getroot()
    assert [action.get("id") for action in root.findall("action")] == list(Right)
    assert all(right.startswith(f"{names.BUS_NAME}.") for right in Right)


def test_every_change_takes_an_administrators_password() -> None:
    for action in ElementTree.parse(POLICY).getroot().findall("action"):
        defaults = action.find("defaults")
        assert defaults is not None
        assert {found.tag: found.text for found in defaults} == {
            "allow_any": "auth_admin",
            "allow_inactive": "auth_admin",
            "allow_active": "auth_admin_keep",
        }
        assert action.findtext("description")
        assert (action.findtext("message") or "").startswith("Authentication is required to ")


@pytest.mark.parametrize(
    ("method", "right"),
    [
        ("Reload", Right.RELOAD),
        ("Discard", Right.DISCARD),
        ("SetMode", Right.SET_MODE),
        ("Hold", Right.HOLD),
    ],
)
def test_each_method_that_takes_an_action_says_which(method: str, right: Right) -> None:
    said = " ".join((getattr(Manager, method).__doc__ or "").split())
    assert f"Action {right}." in said
