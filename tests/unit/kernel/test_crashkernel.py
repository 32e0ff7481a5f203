# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.crashkernel import BadCrashkernel, Request, asked, parse

MIB, GIB = 1 << 20, 1 << 30
RAM = 8 * GIB


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("ro quiet\n", None),
        ("crashkernel=256M", Request(256 * MIB)),
        ("a crashkernel=256M@16M b\n", Request(256 * MIB, base=16 * MIB)),
        ("crashkernel=1G-4G:256M,4G-64G:512M,64G-:1G", Request(512 * MIB)),
        ("crashkernel=1G-:256M@32M", Request(256 * MIB, base=32 * MIB)),
        ("crashkernel=16G-:256M", None),
        ("crashkernel=1G-8G:256M", None),
        ("crashkernel=1G-:0@", None),
        # Behind the size of the range that counts, all but an @ is skipped; behind that of another,
        # the list ends.
        ("crashkernel=1G-4G:1G,4G-:256MB@16Mx", Request(256 * MIB, base=16 * MIB)),
        ("crashkernel=1G-4G:64MB,4G-:256M", None),
        ("crashkernel=0", None),
        ("crashkernel=1G,high", Request(GIB, high=True)),
        ("crashkernel=1G,high crashkernel=128M,low", Request(GIB, high=True, low=128 * MIB)),
        ("crashkernel=0,low crashkernel=1G,high", Request(GIB, high=True, low=0)),
        # The last one of a kind; a plain one before the others, and then without a low part.
        ("crashkernel=1G crashkernel=2G", Request(2 * GIB)),
        ("crashkernel=1G,high crashkernel=2G", Request(2 * GIB)),
        ("crashkernel=2G crashkernel=1G,low", Request(2 * GIB)),
        ("crashkernel=1G crashkernel=512M,cma", Request(GIB, cma=512 * MIB)),
        ("crashkernel=1G,high crashkernel=512M,cma", Request(GIB, high=True, cma=512 * MIB)),
    ],
)
def test_asks_for(cmdline: str, expected: Request | None) -> None:
    assert parse(cmdline, RAM) == expected


@pytest.mark.parametrize(
    ("cmdline", "wrong"),
    [
        ("crashkernel=auto", "no size"),
        ("crashkernel=512MB", "no size"),
        ("crashkernel=1G,hgh", "no size"),
        ("crashkernel=x,high", "no size"),
        ("crashkernel=,high", "no size"),
        ("crashkernel=1Gx,high", "no size"),
        ("crashkernel=", "no size"),
        ("crashkernel=@16M", "no size"),
        ("crashkernel=1G-4G", "no size"),
        ("crashkernel=1G:256M", "no list of ranges"),
        ("crashkernel=4G-1G:256M", "no list of ranges"),
        ("crashkernel=1G-1G:256M", "no list of ranges"),
        ("crashkernel=1G-4GB:256M", "no list of ranges"),
        ("crashkernel=1G-4G:256M,4G:512M", "no list of ranges"),
        ("crashkernel=1G-4G:256M,4G-", "no list of ranges"),
        ("crashkernel=1G-4G:256M,", "no list of ranges"),
        ("crashkernel=1G-:x", "no list of ranges"),
        ("crashkernel=1G-:256M@", "no list of ranges"),
        ("crashkernel=1G-:16G", "more is asked for"),
        ("crashkernel=1G-2G:8G,2G-:256M", "more is asked for"),  # in any range
        ("crashkernel=8G", "more is asked for"),
        ("crashkernel=256M,low", "but no crashkernel=SIZE"),
        ("crashkernel=256M,cma", "but no crashkernel=SIZE"),
    ],
)
def test_is_refused(cmdline: str, wrong: str) -> None:
    with pytest.raises(BadCrashkernel, match=wrong):
        parse(cmdline, RAM)


def test_memory_counts_in_128_mib_for_ranges_only() -> None:
    almost = 4 * GIB - MIB
    assert parse("crashkernel=4G-:256M", almost) == Request(256 * MIB)
    assert parse("crashkernel=4G-4097M:256M", almost) == Request(256 * MIB)
    assert parse("crashkernel=4G-:256M", almost - 128 * MIB) is None
    with pytest.raises(BadCrashkernel, match="more is asked for"):
        parse("crashkernel=4095M", almost)


def test_asked() -> None:
    assert asked("ro crashkernel=0")
    assert not asked("ro nocrash")


@given(st.text(alphabet="crashkernel=0123456789MGx-:,@ highlowcma"))
def test_any_words_are_a_request_or_refused(text: str) -> None:
    with contextlib.suppress(BadCrashkernel):
        request = parse(f"crashkernel={text}", RAM)
        assert request is None or request.size > 0
