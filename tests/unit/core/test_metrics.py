# SPDX-License-Identifier: GPL-2.0-or-later
"""The status as numbers: what is told, in a form that two formats read alike."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric, parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from kexecwatchd import decisions
from kexecwatchd.metrics import FAMILIES, UP, Textfile, collected, ended, exposition
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import DriftSizes, LastLoad, Status
from tests.integration.harness import status

Values = dict[tuple[str, tuple[str, ...]], float]


def told(now: Status) -> Values:
    """{(name, values of the labels, sorted by label): number}, as OpenMetrics."""
    return values(parse_openmetrics(exposition(collected(now)).decode()))


def parse_openmetrics(text: str) -> list[Metric]:
    return list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def values(families: Iterable[Metric]) -> Values:
    return {
        (sample.name, tuple(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def of_crash(now: Status) -> dict[str, float]:
    """What is told of the crash image, without the prefix; states and modes apart."""
    return {
        name.removeprefix("kexecwatch_image_"): value
        for (name, labels), value in told(now).items()
        if labels == ("crash",)
    }


def test_the_daemon_is_described() -> None:
    now = told(status())
    assert now["kexecwatch_up", ()] == 1
    assert now["kexecwatch_info", ("6.12.48+deb13-amd64", "0.1.0")] == 1
    assert now["kexecwatch_last_look_timestamp_seconds", ()] == 1_700_000_004
    assert now["kexecwatch_config_timestamp_seconds", ()] == 1_699_999_000.5
    assert now["kexecwatch_holds", ()] == 1
    assert now["kexecwatch_unarmed_seconds_total", ()] == 3.5


@pytest.mark.parametrize("text", ["", "it is damaged"])
def test_problems_are_flags(text: str) -> None:
    now = told(status().model_copy(update={"problem": text, "config_error": text}))
    assert now["kexecwatch_problem", ()] == bool(text)
    assert now["kexecwatch_config_error", ()] == bool(text)


def test_the_image_is_described() -> None:
    now = status(
        since=1_700_000_100.5,
        covered=False,
        foreign=True,
        drift=DriftSizes(missing_bytes=1 << 40, extra_bytes=2, missing_notes=3),
        last_load=LastLoad(at=1_700_000_001.5, seconds=1.75, succeeded=False),
    )
    assert of_crash(now) == {
        "covered": 0,
        "loaded": 1,
        "foreign": 1,
        "degraded": 1,
        "state_timestamp_seconds": 1_700_000_100.5,
        "missing_bytes": 1 << 40,
        "extra_bytes": 2,
        "missing_notes": 3,
        "in_progress": 1,
        "loads_total": 3,
        "last_load_timestamp_seconds": 1_700_000_001.5,
        "last_load_duration_seconds": 1.75,
        "last_load_success": 0,
    }


def test_before_the_first_load_nothing_is_told_of_the_last() -> None:
    now = of_crash(status(last_load=LastLoad(), degraded="", in_progress=""))
    assert not [name for name in now if name.startswith("last_load")]
    assert (now["degraded"], now["in_progress"]) == (0, 0)


def test_without_any_load_the_metric_is_left_out() -> None:
    nothing = status(last_load=LastLoad())
    images = [image.model_copy(update={"last_load": LastLoad()}) for image in nothing.images]
    text = exposition(collected(nothing.model_copy(update={"images": images})))
    assert b"last_load" not in text


@pytest.mark.parametrize("state", State)
def test_one_state_is_so_and_the_others_are_not(state: State) -> None:
    now = told(status(state=state))
    assert {s: now["kexecwatch_image_state", ("crash", s)] for s in State} == {
        s: s is state for s in State
    }


@pytest.mark.parametrize("mode", Mode)
def test_one_mode_is_so_and_the_others_are_not(mode: Mode) -> None:
    now = told(status(mode=mode))
    assert {m: now["kexecwatch_image_mode", ("crash", m)] for m in Mode} == {
        m: m is mode for m in Mode
    }


def test_each_check_has_its_answer() -> None:
    now = told(status())
    checks = [(labels, value) for (name, labels), value in now.items() if name.endswith("_check")]
    # Sorted by label: answer, check.
    assert checks == [(("problem",) * 2, 1), (("warning",) * 2, 1), (("ok",) * 2, 1)]


def test_no_text_gets_out() -> None:
    text = exposition(collected(status())).decode()
    for secret in ("it lists all memory", "EBUSY", "apt", "a problem", "It means that"):
        assert secret not in text
    assert "0x" not in text


def test_prometheus_text_says_the_same_and_has_every_help() -> None:
    """The collector reads that format, and knows none of the types of OpenMetrics alone."""
    text = exposition(collected(status())).decode()
    families = list(parser.text_string_to_metric_families(text))
    assert values(families) == values(parse_openmetrics(text))
    names = {family.name for family in FAMILIES}
    # This parser takes _total off, like OpenMetrics'.
    assert {f"{f.name}_total" if f.type == "counter" else f.name for f in families} == names
    assert set(re.findall(r"^# TYPE \S+ (\S+)$", text, re.MULTILINE)) == {"gauge"}
    assert set(re.findall(r"^# HELP (\S+) ", text, re.MULTILINE)) == names


def test_units_are_those_of_the_names() -> None:
    text = exposition(collected(status())).decode()
    units = {family.name: family.unit for family in parse_openmetrics(text)}
    assert units["kexecwatch_image_missing_bytes"] == "bytes"
    assert units["kexecwatch_image_last_load_duration_seconds"] == "seconds"
    assert units["kexecwatch_holds"] == ""


def test_each_metric_has_the_labels_that_the_table_says() -> None:
    for family, made in zip(FAMILIES, collected(status()), strict=True):
        assert family.name == made.name
        assert family.name.startswith("kexecwatch_")
        assert family.kind in ("gauge", "counter")
        for sample in made.samples:
            assert set(sample.labels) == set(family.labels)


def test_the_images_are_all_there() -> None:
    for made in collected(status()):
        if "image" in made.samples[0].labels:
            assert {sample.labels["image"] for sample in made.samples} == set(ImageName)


@pytest.fixture
def troubles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(decisions, "trouble", messages.append)
    return messages


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """The unit's UMask=."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_the_file_is_replaced_and_anyone_may_read_it(tmp_path: Path, troubles: list[str]) -> None:
    path = tmp_path / "kexecwatchd.prom"
    textfile = Textfile(path)
    textfile.write(status())
    first = path.stat()
    textfile.write(status(looked_at=1_700_000_064))
    assert path.stat().st_ino != first.st_ino
    assert (first.st_mode & 0o7777, path.stat().st_mode & 0o7777) == (0o644, 0o644)
    assert b"kexecwatch_last_look_timestamp_seconds 1.700000064e+09\n" in path.read_bytes()
    assert path.read_bytes().endswith(b"# EOF\n")
    assert list(tmp_path.iterdir()) == [path]
    assert troubles == []


def test_a_missing_directory_is_told_once_until_it_is_there(
    tmp_path: Path, troubles: list[str]
) -> None:
    path = tmp_path / "gone/kexecwatchd.prom"
    textfile = Textfile(path)
    textfile.write(status())
    textfile.write(status())
    (said,) = troubles
    assert said.startswith(f"{path} cannot be written: No such file or directory")
    path.parent.mkdir()
    textfile.write(status())
    assert path.exists()
    path.unlink()
    path.parent.rmdir()
    textfile.write(status())
    assert len(troubles) == 2


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kexecwatchd.prom"
    textfile = Textfile(path)
    textfile.write(status())
    before = path.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", full)
        textfile.write(status(looked_at=1))
    assert path.read_bytes() == before
    assert [left for left in tmp_path.iterdir() if left.suffix == ".prom"] == [path]
    assert "No space left on device" in troubles[0]


def test_at_the_end_nothing_is_said_but_that(tmp_path: Path) -> None:
    path = tmp_path / "kexecwatchd.prom"
    textfile = Textfile(path)
    textfile.write(status())
    textfile.end()
    after = path.read_text()
    assert values(parse_openmetrics(after)) == {(UP.name, ()): 0}
    assert after.encode() == exposition(ended())
    # A round of the checks may end later than the daemon.
    textfile.write(status())
    assert path.read_text() == after


def test_what_was_said_last_is_taken_away_where_the_end_cannot_be_said(
    tmp_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kexecwatchd.prom"
    textfile = Textfile(path)
    textfile.write(status())
    monkeypatch.setattr(os, "replace", full)
    textfile.end()
    assert not path.exists()
    assert len(troubles) == 1
