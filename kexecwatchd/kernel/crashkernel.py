# SPDX-License-Identifier: GPL-2.0-or-later
"""crashkernel= on the command line, as the kernel reads it.

Sources: parse_crashkernel() in kernel/crash_reserve.c (before 6.9: kernel/crash_core.c);
Documentation/admin-guide/kdump/kdump.rst. The forms are X, X@Y, ranges such as 1G-4G:256M,4G-:512M
(@Y), and X,high; X,low and X,cma (6.17) go with another. Of several of a kind the last one counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecwatchd.kernel.memparse import memparse

_NAME = "crashkernel="
_SUFFIXES = (",high", ",low", ",cma")
_ROUND = 128 << 20
_ANY = 1 << 64


class BadCrashkernel(ValueError):
    """The kernel reserves nothing for these words; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; bytes. `base`: the address that it must have, 0 = any. `high`: above 4 GiB
    first. `low`: the part below 4 GiB, None = what the kernel takes by itself. `cma`: beside it.

    X,low counts with X,high only: with a plain X, kernels of today do not read it."""

    size: int
    base: int = 0
    high: bool = False
    low: int | None = None
    cma: int = 0


def parse(cmdline: str, ram: int) -> Request | None:
    """What this command line asks for on a machine with `ram` bytes; None when it asks for nothing.

    Where kernels differ, as those of today (6.7 and later) do. Raises BadCrashkernel.
    """
    plain, high, low, cma = (_last(cmdline, suffix) for suffix in ("", *_SUFFIXES))
    cma_size = 0 if cma is None else _suffixed(cma)
    if plain is not None:
        size, base = _ranges(plain, ram) if ":" in plain else _simple(plain)
        request = Request(size, base, cma=cma_size)
    elif high is not None:
        low_size = None if low is None else _suffixed(low)
        request = Request(_suffixed(high), high=True, low=low_size, cma=cma_size)
    elif low is None and cma is None:
        return None
    else:
        raise BadCrashkernel("a part ,low or ,cma is asked for, but no crashkernel=SIZE beside it")
    if request.size >= ram:
        raise BadCrashkernel("more is asked for than this machine has")
    return request if request.size else None


def asked(cmdline: str) -> bool:
    """True when there is a crashkernel= at all."""
    return _NAME in cmdline


def _last(cmdline: str, suffix: str) -> str | None:
    """The last value with that suffix, "" for one with none; found as get_last_crashkernel() does,
    in the middle of a word, too."""
    found = None
    for piece in cmdline.split(_NAME)[1:]:
        value = piece.split(" ")[0].rstrip("\n")
        has = next((s for s in _SUFFIXES if value.endswith(s)), "")
        if has == suffix:
            found = value
    return found


def _suffixed(text: str) -> int:
    size, rest = memparse(text)
    if rest == text or rest not in _SUFFIXES:
        raise BadCrashkernel(f"{_NAME}{text} is no size")
    return size


def _simple(text: str) -> tuple[int, int]:
    size, rest = memparse(text)
    if rest == text or (rest and rest[0] != "@"):
        raise BadCrashkernel(f"{_NAME}{text} is no size")
    return size, memparse(rest[1:])[0]


def _ranges(text: str, ram: int) -> tuple[int, int]:
    """Of START-[END]:SIZE,…[@OFFSET]; the machine's memory counts in whole 128 MiB."""
    total = -(-ram // _ROUND) * _ROUND
    listed, at, offset = text.partition("@")
    for part in listed.split(","):
        span, _, amount = part.partition(":")
        first, dash, last = span.partition("-")
        start, end = _number(first, text), _number(last, text) if last else _ANY
        if not dash or end <= start:
            raise _no_list(text)
        size, rest = _begins(amount, text)
        if size >= total:
            raise BadCrashkernel("more is asked for than this machine has")
        if start <= total < end:
            # Whatever follows the size, as in 256MB, is skipped.
            return size, _begins(offset, text)[0] if at and size else 0
        if rest:
            break  # nothing is read behind it
    return 0, 0


def _number(text: str, whole: str) -> int:
    value, rest = _begins(text, whole)
    if rest:
        raise _no_list(whole)
    return value


def _begins(text: str, whole: str) -> tuple[int, str]:
    value, rest = memparse(text)
    if rest == text:
        raise _no_list(whole)
    return value, rest


def _no_list(whole: str) -> BadCrashkernel:
    return BadCrashkernel(f"{_NAME}{whole} is no list of ranges")
