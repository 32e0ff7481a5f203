# SPDX-License-Identifier: GPL-2.0-or-later
"""Shell variables, read without a shell."""

from __future__ import annotations

import subprocess
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.profiles.shell import NotPlain
from kexecwatchd.profiles.shellvars import Variables, parse

VALUES = (
    ("A=b", "b"),
    ("  export A=b  ", "b"),
    ('A="b c"', "b c"),
    ("A='b $c'", "b $c"),
    ("A=b # no more", "b"),
    ("A=b#c", "b#c"),
    ("A=", ""),
    ('A=""', ""),
    ("A=b'c d'e", "bc de"),
    ("A=b\\\nc", "bc"),
    ("A=1\nA=2", "2"),
    ("A=$B", None),
    ('A="`x`"', None),
    ("A='b'$c", None),
    ("A=~/b", None),
    ("A=\\b", "b"),
    ("A=1 B=2", "1"),
    ("A=1; B=2", "1"),
    ("A=b\r\n", "b\r"),
    ("A='b\nB=c'", "b\nB=c"),
    ("A=*", "*"),
    ("export A=*", None),
    ("export A", None),
    ('A="b\\"c\\d"', 'b"c\\d'),
    ("A=#b", "#b"),
)


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_values(text: str, expected: str | None) -> None:
    assert parse(text).values.get("A") == expected


@pytest.mark.parametrize("text", ["", "#A=b", "# \\", " \t\n\n", "\\\n"])
def test_no_assignment(text: str) -> None:
    assert parse(text) == Variables({})


@pytest.mark.parametrize(
    "line",
    [
        "A =b", "A= b", "A=b c", "A=b; rm x", "A=b;;", ";", "if A; then", "fi", "1A=b", "unset A",
        ". /etc/other", "[ -e /x ] && A=b", "A=b &", "A+=b", "A=(b c)", "A=b >c", 'A="b', "A='b",
        "A=$(x 'y')", "A=$'b'", "A=b\\", "exit", 'A""=b', "\\A=b", "export -n A", "A\0=b", "\r",
    ],
)  # fmt: skip
def test_any_other_command_hides_everything(line: str) -> None:
    told = parse(f"A=1\n\n{line}")
    with pytest.raises(NotPlain, match=r"line 3 is|contains a NUL"):
        told.value("A")


def test_a_comment_goes_on_with_no_line() -> None:
    assert parse("# b\\\nA=c").value("A") == "c"


def test_a_default_stands_for_what_is_empty_too() -> None:
    assert parse("A=").value("A", "d") == parse("").value("A", "d") == "d"
    assert parse("A=x").value("A", "d") == "x"
    with pytest.raises(NotPlain, match="A is set to"):
        parse("A=$x").value("A", "d")


@given(st.text())
def test_any_text_is_parsed(text: str) -> None:
    assert all(told is None or isinstance(told, str) for told in parse(text).values.values())


_PARTS = st.sampled_from(
    [*"AB=='\" \n#\\-/;:~*$", "A=", "B=", "\nA=", "\nexport B=", "\\\n", '"', "'", "c d", "\t"]
)


@pytest.mark.parametrize("shell", ["sh", "bash"])
@given(text=st.lists(_PARTS, max_size=14).map("".join))
def test_a_shell_agrees(shell: str, text: str) -> None:
    """Where something is known of a file, a shell that reads it knows the same, and no more."""
    told = parse(text)
    if told.obscure:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".vars") as file:
        file.write(text)
        file.flush()
        script = f'unset A B; . {file.name}; printf "<%s>" "${{A-unset}}" "${{B-unset}}"'
        ran = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    for name, theirs in zip("AB", ran.stdout[1:-1].split("><"), strict=True):
        ours = told.values.get(name, "unset")
        assert ours in (theirs, None)
