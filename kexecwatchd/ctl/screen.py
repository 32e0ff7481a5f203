# SPDX-License-Identifier: GPL-2.0-or-later
"""The text screen, for a tired person at three in the morning: the answer first, then why.

Pure: the same arguments give the same text (local time apart). Colour only repeats what the words
say. Letters are ASCII, for serial consoles.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kexecwatchd.checks.check import Answer
from kexecwatchd.ctl.checkscreen import explaining
from kexecwatchd.ctl.remedy import todo_for
from kexecwatchd.ctl.text import GREEN, RED, YELLOW, counted, listed, painted, plain, wrapped
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import (
    Details,
    DriftSizes,
    ImageDetails,
    ImageStatus,
    SegmentDetails,
    Status,
)
from kexecwatchd.sizes import human

_LABEL_WIDTH = 15

_COVERED, _NOT_COVERED = "COVERED", "NOT COVERED"
_BEING = {"load": "loaded", "unload": "unloaded", "discard": "unloaded"}

VERDICTS = {
    State.CURRENT: "is current",
    State.STALE: "is stale",
    State.UNSAFE: "is unsafe",
    State.ABSENT: "is not loaded",
    State.UNKNOWN: "cannot be judged",
    State.FAILED: "could not be loaded",
}
_PLACED_BY = {
    "log": ", as the kernel's log says",
    "loader": ", as kexec-tools chose",
    "prediction": ", by the kernel's rules",
}
MODES = {
    Mode.ENSURE: "ensure: one is to be loaded, and kept right",
    Mode.FOLLOW: "follow: kept right while one is loaded",
    Mode.OBSERVE: "observe: watched, never touched",
    Mode.OFF: "off: not looked at",
}


@dataclass(frozen=True, slots=True)
class _Fact:
    """A labelled line of an image's block; `items` stand under it, a line each."""

    label: str
    text: str
    colour: str = ""
    items: Sequence[str] = ()


def render(status: Status, details: Details | None, *, now: float, width: int, colour: bool) -> str:
    """The whole screen, without a final newline. `now` is Unix seconds, `width` columns."""
    lines = _answer(status, width, colour)
    for label, text, code in (
        ("Problem", status.problem, RED),
        ("Configuration", status.config_error, YELLOW),
    ):
        if text:
            lines += painted(
                label, f"{label}: {plain(text)}", "  ", width=width, code=code, colour=colour
            )
    lines += _next(status, now, width, colour)
    lines += _found(status, width, colour)
    addresses = {d.image: d for d in details.images} if details else {}
    for image in status.images:
        lines += ["", *_block(image, addresses.get(image.image), now, width, colour)]
    return "\n".join([*lines, "", *_footer(status, now, width)])


def span(seconds: float) -> str:
    """A length of time in its two largest units: `13 s`, `2 min 13 s`, `3 h 5 min`, `4 d`."""
    left = int(seconds)
    parts: list[tuple[int, str]] = []
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, length)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count) or "0 s"


def answer(status: Status) -> str:
    """COVERED or NOT COVERED, and by which image."""
    if status.covered:
        said = [_covered_clause(image) for image in status.images]
        return f"{_COVERED}: {', '.join(said)}"
    said = [_clause(image) for image in status.images if not image.covered]
    return f"{_NOT_COVERED}: {', '.join(said)}"


def _answer(status: Status, width: int, colour: bool) -> list[str]:
    """The first line."""
    word, code = (_COVERED, GREEN) if status.covered else (_NOT_COVERED, RED)
    return painted(word, answer(status), "  ", width=width, code=code, colour=colour)


def _next(status: Status, now: float, width: int, colour: bool) -> list[str]:
    """Who keeps it from being better, and what to do."""
    lines: list[str] = []
    for hold in status.holds:
        why = f" ({plain(hold.why)})" if hold.why else ""
        text = f"Held by {plain(hold.who)}{why}: nothing is loaded{_since(hold.since, now)}"
        lines += painted("Held", text, "  ", width=width, code=YELLOW, colour=colour)
    if todo := todo_for(status):
        lines += wrapped(f"What to do: {plain(todo)}", width, "  ")
    return lines


def _found(status: Status, width: int, colour: bool) -> list[str]:
    """What the checks found wrong, a line each, the worst first; nothing where there is nothing."""
    lines: list[str] = []
    for answer, code in ((Answer.PROBLEM, RED), (Answer.WARNING, YELLOW)):
        for check in status.checks:
            if check.answer == answer:
                text = f"  {answer}".ljust(_LABEL_WIDTH)
                text += f"{plain(check.question)} {plain(check.summary)} ({plain(check.name)})"
                indent = " " * _LABEL_WIDTH
                lines += painted(answer, text, indent, width=width, code=code, colour=colour)
    if not lines:
        return []
    head = "Checks".ljust(_LABEL_WIDTH) + f"what to do: {explaining(status.checks)}"
    return ["", *wrapped(head, width, " " * _LABEL_WIDTH), *lines]


def _clause(image: ImageStatus) -> str:
    degraded = " (degraded)" if image.degraded else ""
    return f"{image.image} image {VERDICTS[image.state]}{degraded}"


def _covered_clause(image: ImageStatus) -> str:
    if image.mode is Mode.OFF:
        return f"{image.image} image is not watched"
    if image.guarded:
        return f"{_clause(image)}, and guarded"
    return _clause(image) + ("" if image.state is State.CURRENT else " (need not be)")


def _block(
    image: ImageStatus, details: ImageDetails | None, now: float, width: int, colour: bool
) -> list[str]:
    head = f"{image.image.capitalize()} image".ljust(_LABEL_WIDTH)
    if image.mode is Mode.OFF:
        return [head + MODES[Mode.OFF]]
    indent = " " * _LABEL_WIDTH
    word = image.state.upper()
    text = head + word + _since(image.since, now)
    code = _state_code(image)
    lines = painted(word, text, indent, width=width, code=code, colour=colour)
    for fact in _facts(image, details, now):
        text = f"  {fact.label}".ljust(_LABEL_WIDTH) + plain(fact.text)
        lines += painted(fact.label, text, indent, width=width, code=fact.colour, colour=colour)
        lines += [f"{indent}  {plain(item)}" for item in fact.items]
    return lines


def _facts(image: ImageStatus, details: ImageDetails | None, now: float) -> Iterator[_Fact]:
    yield _Fact("why", image.reason)
    if image.in_progress:
        what = _BEING.get(image.in_progress, image.in_progress)
        began = _since(image.in_progress_since, now)
        yield _Fact("now", f"being {what}{began}: a panic meanwhile writes no dump", YELLOW)
    yield _Fact("mode", MODES[image.mode])
    if image.mode is not image.configured_mode:
        yield _Fact(
            "",
            f"set until the next boot; the configuration says {image.configured_mode}",
            YELLOW,
        )
    yield from _drift(image, details)
    if image.proof:
        yield _Fact("judged by", image.proof)
    if image.degraded:
        yield _Fact("degraded", image.degraded, YELLOW)
    if image.foreign:
        yield _Fact("foreign", "loaded by someone else, from files not known here", YELLOW)
    if details and details.elfcorehdr:
        yield _Fact("elfcorehdr", f"at {details.elfcorehdr}")
    if details and details.segments:
        count = counted(len(details.segments), "segment")
        how = _PLACED_BY.get(details.placed_by, "")
        yield _Fact("placement", f"{count}{how}", items=_segments(details.segments))
    yield _Fact("last load", _last_load(image, now))
    if image.last_action:
        yield _Fact("last action", f"{image.last_action}{_when(image.last_action_at, now)}")
    if image.last_error:
        yield _Fact("last error", image.last_error, RED)
    if image.image is ImageName.REBOOT and image.loaded:
        yield _start(image)
    if image.next_step or image.next_try:
        yield _Fact("next", (image.next_step or "load it") + _countdown(image.next_try, now))


def _segments(segments: Sequence[SegmentDetails]) -> list[str]:
    """A line each: place, size, what it is, and what is wrong with the place."""
    lines = []
    for segment, line in zip(segments, listed(segments, most=len(segments)), strict=True):
        risks = [
            f"{risk.hazard} ({', '.join(f'memory{n}' for n in risk.memory_blocks)})"
            for risk in segment.risks
        ]
        parts = [line, segment.name, f"! {', '.join(risks)}" if risks else ""]
        lines.append("  ".join(part for part in parts if part))
    return lines


def _drift(image: ImageStatus, details: ImageDetails | None) -> Iterator[_Fact]:
    drift = image.drift
    if drift.missing_bytes:
        held = f"{human(drift.missing_bytes)} in {counted(drift.missing_ranges, 'range')}"
        yield _Fact(
            "missing",
            f"{held}: RAM that a dump would lack",
            RED,
            listed(details.missing) if details else (),
        )
    if drift.extra_bytes:
        held = f"{human(drift.extra_bytes)} in {counted(drift.extra_ranges, 'range')}"
        yield _Fact(
            "extra",
            f"{held}: gone, yet listed; reading it can hang a dump",
            RED,
            listed(details.extra) if details else (),
        )
    if drift.missing_notes:
        which = f": {', '.join(details.missing_notes)}" if details else ""
        yield _Fact("notes", f"{drift.missing_notes} missing, of CPUs or vmcoreinfo{which}", RED)
    if drift == DriftSizes() and image.state is State.CURRENT:
        yield _Fact("drift", "none: nothing missing, nothing extra")


def _start(image: ImageStatus) -> _Fact:
    if not image.start_obstacle:
        return _Fact("start", "may be started: kexecwatchctl exec")
    if image.start_obstacle == image.reason:
        return _Fact("start", "refused, for that reason", YELLOW)
    return _Fact("start", f"refused: {image.start_obstacle}", YELLOW)


def _last_load(image: ImageStatus, now: float) -> str:
    load = image.last_load
    if not load.at:
        return "none by kexecwatchd since boot"
    result = "succeeded" if load.succeeded else "FAILED"
    source = f", {load.source} files" if load.source else ""
    # The last action is the load more often than not, and has said why.
    reason = f": {load.reason}" if load.reason not in image.last_action else ""
    return (
        f"{result} after {load.seconds:.1f} s{source}{reason}{_when(load.at, now)};"
        f" {counted(image.load_count, 'good load')} since boot"
    )


def _footer(status: Status, now: float, width: int) -> list[str]:
    looked = "Not looked yet"
    if status.looked_at:
        looked = f"Last look {_moment(status.looked_at, now)}"
    unarmed = ""
    if status.unarmed_seconds:
        unarmed = f" Unarmed for {status.unarmed_seconds:.1f} s since boot, by loads and unloads."
    # None where kexecwatchctl has looked itself.
    daemon = f", kexecwatchd {plain(status.daemon_version)}" if status.daemon_version else ""
    lines = wrapped(f"{looked}.{unarmed} Linux {plain(status.kernel_release)}{daemon}.", width, "")
    if status.switched_off:
        rules = ", ".join(status.switched_off)
        undo = "undo: kexecwatchctl takeover --revert"
        lines += wrapped(f"Switched off by takeover: {plain(rules)} ({undo}).", width, "")
    return lines


def _state_code(image: ImageStatus) -> str:
    if not image.covered:
        return RED
    return GREEN if image.state is State.CURRENT else YELLOW


def _since(at: float, now: float) -> str:
    if not at:
        return ""
    # A clock that was set back gives no length of time.
    length = f" for {span(now - at)}" if now >= at else ""
    return f"{length}, since {_clock(at, now)}"


def _when(at: float, now: float) -> str:
    return f" ({_moment(at, now)})" if at else ""


def _moment(at: float, now: float) -> str:
    ago = f"{span(now - at)} ago, " if now >= at else ""
    return ago + _clock(at, now)


def _countdown(at: float, now: float) -> str:
    if not at:
        return ""
    return f" (in {span(at - now)}, {_clock(at, now)})" if at > now else " (due now)"


def _clock(at: float, now: float) -> str:
    """Local time, as the journal has it; with the date unless it is today's."""
    then, today = time.localtime(at), time.localtime(now)
    same_day = then[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", then)
