# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a check's answer, be it an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from kexecwatchd import config
from kexecwatchd.checks import doctor
from kexecwatchd.checks.check import Answer, Check, Finding
from kexecwatchd.checks.host import ABOUT, COLLECTED, CannotTell, Host
from kexecwatchd.config import Config
from kexecwatchd.model import Mode
from tests.unit.kernel.trees import populate

ADDRESS = "0x13a53f000-0x13fffffff"
LISTED = "13a53f000-13fffffff"


def check(look: Callable[[Host], Finding]) -> Check:
    return Check("a", "Is it so?", look, frozenset({Answer.OK}))


def raising(error: Exception) -> Callable[[Host], Finding]:
    def look(host: Host) -> NoReturn:
        raise error

    return look


def test_no_text_that_everyone_gets_has_an_address() -> None:
    finding = Finding(
        Answer.PROBLEM,
        f"it ends at {ADDRESS}",
        f"the line is {LISTED} : System RAM",
        f"memmap={ADDRESS}",
        {"line": LISTED, "lines": [LISTED], "by line": {LISTED: LISTED}, "size": 1 << 30},
    )
    [result] = doctor.ask(Host(), [check(lambda host: finding)])
    told = result.model_dump_json()
    assert "13a53f000" not in told
    assert "13fffffff" not in told
    black = "[address]"
    assert result.facts == {
        "line": black, "lines": [black], "by line": {black: black}, "size": 1 << 30
    }  # fmt: skip
    assert result.summary == "it ends at [address]"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CannotTell(f"nothing at {ADDRESS}"), "nothing at [address]"),
        (OSError(f"nothing at {ADDRESS}"), "nothing at [address]"),
        (ValueError("no number"), "no number"),
        (KeyError(ADDRESS), "this check failed with KeyError: please report it"),
    ],
)
def test_an_error_is_an_answer_and_takes_no_other_with_it(error: Exception, says: str) -> None:
    good = check(lambda host: Finding(Answer.OK, "yes"))
    first, second = doctor.ask(Host(), [check(raising(error)), good])
    assert (first.answer, first.summary) == ("cannot tell", says)
    assert (second.answer, second.summary) == ("ok", "yes")


def test_a_configuration_in_force_comes_before_the_files(tmp_path: Path) -> None:
    in_force = config.from_tables({"crash": {"mode": "off"}}, {})
    assert Host(tmp_path, in_force=in_force).config == in_force
    assert Host(tmp_path).config == Config()


def test_either_place_has_a_configuration_and_a_wrong_one_is_no_answer(tmp_path: Path) -> None:
    vendor = {"usr/lib/kexecwatchd/kexecwatchd.toml": '[crash]\nmode = "off"\n'}
    populate(tmp_path / "vendor", vendor)
    assert Host(tmp_path / "vendor").config.crash.mode is Mode.OFF
    populate(tmp_path / "wrong", {"etc/kexecwatchd/kexecwatchd.toml": "[crash]\nmode = 1\n"})
    with pytest.raises(CannotTell, match="configuration is wrong"):
        _ = Host(tmp_path / "wrong").config


@pytest.mark.parametrize("about", ["", "[1]", '{"left_out": 3}', "{}"])
def test_a_damaged_collection_left_nothing_out(about: str, tmp_path: Path) -> None:
    populate(tmp_path, {f"{COLLECTED}/{ABOUT}": about})
    host = Host(tmp_path, live=False)
    assert not host.left_out("boot-log")
    with pytest.raises(CannotTell, match="was not collected"):
        _ = host.machine
