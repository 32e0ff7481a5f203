# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import ast
import inspect
import logging
from pathlib import Path

import pytest
from dbus_fast import DBusError

import kexecwatchd.bus
from kexecwatchd import requests
from kexecwatchd.bus import errors, names

OURS = {name: value for name, value in vars(names).items() if name.startswith("ERROR_")}


def test_every_error_is_explained() -> None:
    assert set(errors.ERRORS) == set(OURS.values())
    assert len(set(errors.ERRORS.values())) == len(OURS)


def test_every_error_that_is_raised_has_one_of_these_names() -> None:
    """DBusError is made with names.ERROR_... and nothing else, or by answer()."""
    used = set()
    for path in Path(kexecwatchd.bus.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DBusError":
                name = ast.unparse(node.args[0])
                assert name == "_NAME_OF[kind]" or name.removeprefix("names.") in OURS, path
                used.add(name.removeprefix("names."))
    assert len(used) > 3


def test_everything_that_a_request_can_end_in_has_a_name_of_its_own() -> None:
    endings = [
        e for e in vars(requests).values() if inspect.isclass(e) and issubclass(e, Exception)
    ]
    found = {errors.answer("Hold", ending("because")).type for ending in endings}
    assert len(found) == len(endings)
    assert names.ERROR_FAILED not in found


def test_a_sentence_is_kept_but_for_what_the_bus_cannot_carry() -> None:
    answer = errors.answer("Reload", requests.Held("a\0b holds"))
    assert (answer.type, answer.text) == (names.ERROR_HELD, "a\N{REPLACEMENT CHARACTER}b holds")
    known = DBusError(names.ERROR_ACCESS_DENIED, "no")
    assert errors.answer("Reload", known) is known


def test_a_fault_of_ours_is_told_to_the_journal_alone(caplog: pytest.LogCaptureFixture) -> None:
    answer = errors.answer("Verify", ValueError("at 0x140000000"))
    assert answer.type == names.ERROR_FAILED
    assert "0x140000000" not in answer.text
    assert "ValueError" in answer.text
    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    assert "0x140000000" in caplog.text
