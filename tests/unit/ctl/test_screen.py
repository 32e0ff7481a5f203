# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re
import time
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.ctl.screen import render, span
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import (
    AddressRange,
    CheckResult,
    Details,
    DriftSizes,
    ImageDetails,
    ImageStatus,
    LastLoad,
    RiskDetails,
    SegmentDetails,
    Status,
)

NOW = 1_772_330_000.0  # 2026-03-01 01:53:20 UTC
GIB = 1 << 30


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def image(name: ImageName = ImageName.CRASH, **changes: Any) -> ImageStatus:
    return ImageStatus(
        image=name,
        mode=Mode.ENSURE,
        configured_mode=Mode.ENSURE,
        state=State.CURRENT,
        reason="it lists all 4 GiB of System RAM",
        covered=True,
        loaded=True,
        foreign=False,
        proof="read-back",
        since=NOW - 133,
    ).model_copy(update=changes)


def status(*images: ImageStatus, **changes: Any) -> Status:
    return Status(
        daemon_version="0.1.0",
        kernel_release="6.12.48+deb13-amd64",
        looked_at=NOW - 3,
        images=list(images),
    ).model_copy(update=changes)


STALE = image(
    state=State.STALE,
    covered=False,
    reason="memory was added",
    drift=DriftSizes(
        missing_bytes=2 * GIB,
        missing_ranges=1,
        extra_bytes=GIB // 2,
        extra_ranges=12,
        missing_notes=1,
    ),
    last_load=LastLoad(at=NOW - 7200, seconds=1.93, succeeded=True, source="configured"),
    load_count=3,
    last_action="loaded it: 1 GiB came",
    last_action_at=NOW - 7200,
    last_error="EBUSY",
    next_step="load it again",
    next_try=NOW + 18,
)
OFF = image(ImageName.REBOOT, mode=Mode.OFF, state=State.UNKNOWN, loaded=False)


def screen(shown: Status, details: Details | None = None, *, width: int = 80) -> str:
    return render(shown, details, now=NOW, width=width, colour=False)


def first_line(shown: Status) -> str:
    return screen(shown).splitlines()[0]


def row(text: str, label: str) -> str:
    """The line of that label, with what it was wrapped into, as one."""
    found = re.search(rf"^  {label} +(.*(?:\n {{15}}\S.*)*)", text, re.MULTILINE)
    assert found, f"no {label!r} in:\n{text}"
    return re.sub(r"\s+", " ", found[1])


@pytest.mark.parametrize(
    ("shown", "answer"),
    [
        (status(image(), OFF), "COVERED: crash image is current, reboot image is not watched"),
        (
            status(image(), image(ImageName.REBOOT, mode=Mode.FOLLOW, state=State.ABSENT)),
            "COVERED: crash image is current, reboot image is not loaded (need not be)",
        ),
        (status(image(degraded="initrd gone")), "COVERED: crash image is current (degraded)"),
        (status(STALE, OFF), "NOT COVERED: crash image is stale"),
        (
            status(STALE, image(ImageName.REBOOT, state=State.UNSAFE, covered=False)),
            "NOT COVERED: crash image is stale, reboot image is unsafe",
        ),
        (
            status(image(state=State.FAILED, covered=False)),
            "NOT COVERED: crash image could not be loaded",
        ),
    ],
)
def test_the_first_line_is_the_answer(shown: Status, answer: str) -> None:
    assert first_line(shown) == answer


def test_a_stale_image_says_what_why_when_and_what_next() -> None:
    text = screen(status(STALE, OFF))
    assert "Crash image    STALE for 2 min 13 s, since 01:51:07" in text
    assert row(text, "why") == "memory was added"
    assert row(text, "missing") == "2 GiB in 1 range: RAM that a dump would lack"
    assert row(text, "extra").startswith("512 MiB in 12 ranges: gone, yet listed")
    assert row(text, "notes") == "1 missing, of CPUs or vmcoreinfo"
    assert row(text, "last load") == (
        "succeeded after 1.9 s, configured files (2 h ago, 2026-02-28 23:53:20);"
        " 3 good loads since boot"
    )
    assert row(text, "last action") == "loaded it: 1 GiB came (2 h ago, 2026-02-28 23:53:20)"
    assert row(text, "last error") == "EBUSY"
    assert row(text, "next") == "load it again (in 18 s, 01:53:38)"
    assert "  drift" not in text
    assert "0x" not in text
    assert text.splitlines()[-1] == (
        "Last look 3 s ago, 01:53:17. Linux 6.12.48+deb13-amd64, kexecwatchd 0.1.0."
    )


def test_a_good_image_says_so_in_few_lines() -> None:
    text = screen(status(image(), OFF))
    assert row(text, "drift") == "none: nothing missing, nothing extra"
    assert row(text, "judged by") == "read-back"
    assert row(text, "last load") == "none by kexecwatchd since boot"
    assert not re.search(r"missing  |extra  |degraded|foreign|last error|next", text)
    assert "Reboot image   off: not looked at" in text
    assert len(text.splitlines()) < 24


def test_problems_come_right_after_the_answer() -> None:
    text = screen(status(STALE, problem="iomem is zeros", config_error="crash.mode:\n 'x'"))
    assert text.splitlines()[1:3] == ["Problem: iomem is zeros", "Configuration: crash.mode:  'x'"]


def test_remarks_of_degraded_and_foreign_images() -> None:
    text = screen(status(image(degraded="the initrd is empty", foreign=True)))
    assert row(text, "degraded") == "the initrd is empty"
    assert row(text, "foreign").startswith("loaded by someone else")


def test_a_load_names_its_reason_once() -> None:
    load = LastLoad(at=NOW - 1, seconds=0.1, reason="memory came")
    assert "memory came" in row(screen(status(image(last_load=load))), "last load")
    told = image(last_load=load, last_action="tried a load: memory came")
    assert "memory came" not in row(screen(status(told)), "last load")
    assert row(screen(status(told)), "last load").startswith("FAILED after 0.1 s")


def test_no_drift_is_good_news_only_of_a_current_image() -> None:
    text = screen(status(image(ImageName.REBOOT, state=State.UNSAFE, covered=False)))
    assert "  drift" not in text
    assert "Reboot image   UNSAFE" in text


def test_the_ends_of_a_range_are_inclusive() -> None:
    byte = SegmentDetails(start="0x1000", end="0x1000")
    details = Details(images=[ImageDetails(image=ImageName.CRASH, segments=[byte])])
    assert "0x1000-0x1000  1 B\n" in screen(status(image()), details)


@pytest.mark.parametrize(
    ("next_try", "said"), [(0, "wait"), (NOW, "wait (due now)"), (NOW + 61, "wait (in 1 min 1 s,")]
)
def test_countdown(next_try: float, said: str) -> None:
    text = screen(status(image(next_step="wait", next_try=next_try)))
    assert row(text, "next").startswith(said)


def test_a_clock_set_back_gives_times_and_no_lengths() -> None:
    text = screen(status(image(since=NOW + 3600), looked_at=NOW + 3600))
    assert "CURRENT, since 02:53:20" in text
    assert "Last look 02:53:20." in text


def test_details_show_each_range_with_its_size() -> None:
    ranges = [
        AddressRange(start=f"{n << 28:#x}", end=f"{(n << 28) + (1 << 27) - 1:#x}")
        for n in range(16, 28)
    ]
    details = Details(
        images=[
            ImageDetails(
                image=ImageName.CRASH,
                missing=[AddressRange(start="0x100000000", end="0x17fffffff")],
                extra=ranges,
                missing_notes=["cpu3"],
                elfcorehdr="0x2f000000",
                segments=[
                    SegmentDetails(start="0x100000", end="0x100fff", name="purgatory"),
                    SegmentDetails(
                        start="0x8000000",
                        end="0x17ffffff",
                        name="kernel",
                        risks=[RiskDetails(hazard="movable", parts=[], memory_blocks=[1, 2])],
                    ),
                ],
                placed_by="log",
            )
        ]
    )
    text = screen(status(STALE, OFF), details)
    assert "\n                 0x100000000-0x17fffffff  2 GiB\n" in text
    assert text.count("128 MiB") == 8
    assert "and 4 more: all of them with --json" in text
    assert row(text, "notes").endswith(": cpu3")
    assert row(text, "elfcorehdr") == "at 0x2f000000"
    assert row(text, "placement") == "2 segments, as the kernel's log says"
    assert "4 KiB  purgatory\n" in text
    assert "256 MiB  kernel  ! movable (memory1, memory2)\n" in text


TEXT = st.text(max_size=200)
LEVELS = st.sampled_from([0, 1, 59.5, NOW - 90_000, NOW, NOW + 10, 4e9])


@st.composite
def images(draw: st.DrawFn) -> ImageStatus:
    text, at = draw(TEXT), draw(LEVELS)
    return image(
        state=draw(st.sampled_from(State)),
        mode=draw(st.sampled_from(Mode)),
        covered=draw(st.booleans()),
        reason=text,
        degraded=text,
        last_error=text,
        last_action=text,
        next_step=text,
        next_try=at,
        since=at,
        last_load=LastLoad(at=at, reason=text, source="configured"),
    )


@given(images(), TEXT, LEVELS, st.integers(60, 100))
def test_any_report_fits_the_width_and_steers_no_terminal(
    shown: ImageStatus, text: str, at: float, width: int
) -> None:
    out = screen(status(shown, OFF, problem=text, looked_at=at), width=width)
    assert out.startswith("COVERED: " if shown.covered else "NOT COVERED: ")
    for line in out.splitlines():
        assert len(line) <= width
        assert all(c.isprintable() for c in line)


@pytest.mark.parametrize("shown", [status(image(), OFF), status(STALE, OFF, problem="x")])
def test_colour_adds_nothing_but_colour(shown: Status) -> None:
    coloured = render(shown, None, now=NOW, width=80, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == screen(shown)
    assert coloured.startswith("\x1b[32mCOVERED\x1b[0m" if shown.covered else "\x1b[1;31mNOT")
    assert coloured.count("\x1b[0m") == coloured.count("\x1b[") / 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.9, "0 s"),
        (13.9, "13 s"),
        (60, "1 min"),
        (133, "2 min 13 s"),
        (3600, "1 h"),
        (3659, "1 h"),
        (11_100, "3 h 5 min"),
        (86_400 * 4 + 7200, "4 d 2 h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("obstacle", "shown"),
    [
        ("", "may be started: kexecwatchctl exec"),
        ("4 MiB are gone", "refused, for that reason"),
        ("nothing proves it", "refused: nothing proves it"),
    ],
)
def test_whether_the_reboot_image_may_be_started(obstacle: str, shown: str) -> None:
    reboot = image(ImageName.REBOOT, reason="4 MiB are gone", start_obstacle=obstacle)
    assert row(screen(status(image(), reboot)), "start") == shown


def test_what_cannot_be_started_anyway_has_no_such_line() -> None:
    absent = image(ImageName.REBOOT, loaded=False, start_obstacle="none is loaded")
    assert "  start" not in screen(status(image(), absent))


def found(*answers: str) -> list[CheckResult]:
    return [
        CheckResult(name=f"c{n}", question="Is it so?", answer=answer, summary=f"it is\t{n}")
        for n, answer in enumerate(answers)
    ]


def test_what_the_checks_found_stands_below_the_answer_the_worst_first() -> None:
    checks = found("warning", "ok", "problem", "cannot tell", "not applicable")
    lines = screen(status(image(), checks=checks)).splitlines()
    assert lines[:6] == [
        "COVERED: crash image is current",
        "",
        "Checks         what to do: kexecwatchctl check c0 c2",
        "  problem      Is it so? it is 2 (c2)",
        "  warning      Is it so? it is 0 (c0)",
        "",
    ]


def test_checks_that_found_nothing_are_no_lines() -> None:
    checks = found("ok", "cannot tell", "not applicable")
    assert screen(status(image(), checks=checks)) == screen(status(image()))


def test_a_rule_that_was_switched_off_is_named_with_the_way_back() -> None:
    both = image(), image(ImageName.REBOOT)
    shown = " ".join(screen(status(*both, switched_off=["50-kdump-tools.rules"])).split())
    assert "Switched off by takeover: 50-kdump-tools.rules" in shown
    assert "kexecwatchctl takeover --revert" in shown
    assert "takeover" not in screen(status(*both))
