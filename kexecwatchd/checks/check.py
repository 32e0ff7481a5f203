# SPDX-License-Identifier: GPL-2.0-or-later
"""What a check is, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kexecwatchd.checks.host import Host, Source


class Answer(StrEnum):
    """The worst first."""

    PROBLEM = "problem"  # a dump or a kexec fails, or loses something, as things stand
    WARNING = "warning"  # it may fail
    CANNOT_TELL = "cannot tell"
    OK = "ok"
    NOT_APPLICABLE = "not applicable"


Fact = int | float | str | list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer. No text has a physical address in it: the bus shows them to everyone.

    `summary`: one line. `explanation`: a paragraph for who has never heard of it. `remedy`: what to
    do, with the exact setting; of every problem and warning. `facts`: the numbers behind it, by
    name (sizes in bytes).
    """

    answer: Answer
    summary: str
    explanation: str = ""
    remedy: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One question.

    `look` may raise CannotTell, OSError or ValueError instead of answering. `answers`: those that
    it can give besides CANNOT_TELL; tests hold a machine for each. `cheap`: it reads a few small
    files, so the daemon asks it too.

    What it reads, for who collects a machine: `files` are patterns below the root, without leading
    slash; `addresses` are those whose contents are physical addresses; `asks` is what cannot be
    copied as a file.
    """

    name: str
    question: str
    look: Callable[[Host], Finding]
    answers: frozenset[Answer]
    cheap: bool = True
    files: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    asks: tuple[Source[Any], ...] = ()
