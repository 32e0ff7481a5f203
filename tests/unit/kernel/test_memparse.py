# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.memparse import memparse, words


@pytest.mark.parametrize(
    ("text", "value", "rest"),
    [
        ("512M", 512 << 20, ""),
        ("4g@16M", 4 << 30, "@16M"),
        ("0x20000000", 0x20000000, ""),
        ("0x10K,high", 0x4000, ",high"),
        ("010", 8, ""),
        ("09", 0, "9"),
        ("1E", 1 << 60, ""),
        ("8E", 1 << 63, ""),
        ("20E", 4 << 60, ""),  # 64 bits
        ("1MB", 1 << 20, "B"),
        ("0xg", 0, "xg"),
        ("auto", 0, "auto"),
        ("", 0, ""),
    ],
)
def test_memparse(text: str, value: int, rest: str) -> None:
    assert memparse(text) == (value, rest)


@given(st.text())
def test_any_text_is_a_number_and_a_rest(text: str) -> None:
    value, rest = memparse(text)
    assert 0 <= value < 1 << 64
    assert text.endswith(rest)


def test_words() -> None:
    cmdline = 'ro  a=1 b="x y" "c=1 2" d="1 --" e== --=1 -- f=2\n'
    assert list(words(cmdline)) == [
        ("ro", None),
        ("a", "1"),
        ("b", "x y"),
        ("c", "1 2"),
        ("d", "1 --"),
        ("e", "="),
        ("--", "1"),
    ]


@given(st.text(alphabet='ab= "-\n'))
def test_any_command_line_has_words(cmdline: str) -> None:
    list(words(cmdline))
