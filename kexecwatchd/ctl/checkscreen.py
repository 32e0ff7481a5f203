# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of `kexecwatchctl check`: a line a question; on request a paragraph and a remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from kexecwatchd.checks.check import Answer
from kexecwatchd.ctl import text
from kexecwatchd.ctl.text import counted, paint, plain, wrapped
from kexecwatchd.report import CheckResult

_COLOUR = {Answer.PROBLEM: text.RED, Answer.WARNING: text.YELLOW, Answer.OK: text.GREEN}
_WIDTH = max(len(answer) for answer in Answer)
_INDENT = " " * (_WIDTH + 2)


def render(results: Sequence[CheckResult], *, explain: bool, width: int, colour: bool) -> str:
    lines: list[str] = []
    for result in results:
        lines += _lines(result, explain=explain, width=width, colour=colour)
        if explain:
            lines.append("")
    if not explain:
        lines.append("")
    lines += _verdict(results, explain, width)
    return "\n".join(lines)


def explaining(results: Sequence[CheckResult]) -> str:
    """The command that explains what is wrong; all, where nothing is."""
    wrong = [r.name for r in results if r.answer in (Answer.PROBLEM, Answer.WARNING)]
    return " ".join(["kexecwatchctl check", *(wrong or ["--explain"])])


def _lines(result: CheckResult, *, explain: bool, width: int, colour: bool) -> Iterator[str]:
    answer = Answer(result.answer)
    word = paint(f"{answer:<{_WIDTH}}", _COLOUR.get(answer, ""), colour)
    sentence = f"{result.question} {plain(result.summary)}"
    first, *rest = wrapped(sentence, width - len(_INDENT), "")
    yield f"{word}  {first}"
    yield from (_INDENT + line for line in rest)
    if not explain:
        return
    for paragraph in (result.explanation, result.remedy and f"What to do: {result.remedy}"):
        if paragraph:
            yield from (
                _INDENT + line for line in wrapped(plain(paragraph), width - len(_INDENT), "")
            )
    yield f"{_INDENT}({result.name})"


def _verdict(results: Sequence[CheckResult], explain: bool, width: int) -> list[str]:
    many = Counter(Answer(result.answer) for result in results)
    parts = [
        counted(many[answer], noun)
        for answer, noun in (
            (Answer.PROBLEM, "problem"),
            (Answer.WARNING, "warning"),
            (Answer.CANNOT_TELL, "unanswered question"),
        )
        if many[answer]
    ]
    if not parts:
        return ["No problem found."]
    hint = "" if explain else f" What it means and what to do: {explaining(results)}"
    return wrapped(f"{', '.join(parts)}.{hint}", width, "")
