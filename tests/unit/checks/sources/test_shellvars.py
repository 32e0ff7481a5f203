# SPDX-License-Identifier: GPL-2.0-or-later
"""Shell variables, read without a shell."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.checks.sources.shellvars import NotPlain, parse, value

_SH = shutil.which("sh") or "/bin/sh"

VALUES = (
    ("A=b", "b"),
    ("  export A=b  ", "b"),
    ('A="b c"', "b c"),
    ("A='b $c'", "b $c"),
    ("A=b # no more", "b"),
    ("A=b#c", "b#c"),
    ("A=", ""),
    ("A= b", None),
    ('A=""', ""),
    ("A=b'c d'e", "bc de"),
    ("A=b\\\nc", "bc"),
    ("A=1\nA=2", "2"),
    ("A=$B", None),
    ('A="`x`"', None),
    ("A='b'$c", None),
    ("A=b c", None),
    ("A=b; rm x", None),
    ("A=b;c", None),
    ('A="b', None),
    ("A=~/b", None),
    ("A=\\b", None),
    ('A="b\\"c\\d"', 'b"c\\d'),
    ("A=#b", "#b"),
)


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_values(text: str, expected: str | None) -> None:
    assert parse(text)["A"] == expected


@pytest.mark.parametrize("text", ["#A=b", "A =b", "if A; then", "", "1A=b", "# \\"])
def test_no_assignment(text: str) -> None:
    assert parse(text) == {}


def test_a_comment_goes_on_with_no_line() -> None:
    assert parse("# b\\\nA=c") == {"A": "c"}


def test_a_default_stands_for_what_is_empty_too() -> None:
    assert value({"A": ""}, "A", "d") == value({}, "A", "d") == "d"
    assert value({"A": "x"}, "A", "d") == "x"
    with pytest.raises(NotPlain, match="A is set to"):
        value({"A": None}, "A", "d")


@given(st.text())
def test_any_text_is_parsed(text: str) -> None:
    assert all(told is None or isinstance(told, str) for told in parse(text).values())


@given(st.text(alphabet="ab'\" #\\-/=", max_size=12))
def test_a_shell_agrees(raw: str) -> None:
    """Of what is called known, where a shell takes it without complaint and runs nothing."""
    told = parse(f"A={raw}").get("A")
    if told is None:
        return
    script = f'A={raw}\nprintf "<%s>" "$A"'
    ran = subprocess.run([_SH, "-c", script], capture_output=True, text=True, check=False)
    if ran.returncode == 0 and not ran.stderr:
        assert ran.stdout == f"<{told}>"
