# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger on disk: it comes back as it was, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from kexecwatchd import ledger
from kexecwatchd.ledger import (
    HoldRecord,
    ImageRecord,
    Intent,
    Landing,
    LastGood,
    Ledger,
    LoadRecord,
    NoDetour,
    Pair,
    Prediction,
    Told,
)
from kexecwatchd.model import (
    Action,
    Drift,
    ImageName,
    Mode,
    PlacedBy,
    Placement,
    Segment,
    State,
)
from kexecwatchd.ondisk import Signatures
from kexecwatchd.ranges import Range, RangeSet
from kexecwatchd.report import Decision, Hold

BOOT = "8c6d1ac4-9b0d-4c04-9f6e-6d6b2f5b2b5f"

texts = st.text(max_size=20)
times = st.floats(0, 1e12)
spans = st.tuples(st.integers(0, 1 << 56), st.integers(1, 1 << 40))
range_sets = st.lists(spans.map(lambda s: Range(s[0], s[0] + s[1])), max_size=4).map(RangeSet)
drifts = st.builds(Drift, range_sets, range_sets, st.lists(texts, max_size=3).map(tuple))
pairs = st.builds(Pair, kernel=texts, initrd=texts, cmdline=texts)
segments = st.lists(
    st.builds(
        Segment, st.integers(0, 1 << 56), st.integers(1, 1 << 40), texts, st.integers(1, 1 << 30)
    ),
    max_size=4,
).map(tuple)
tried = st.none() | st.builds(Signatures, texts, texts, texts, texts)
records = st.builds(
    ImageRecord,
    ours=st.booleans(),
    pair=st.none() | pairs,
    ram=st.none() | range_sets,
    online=st.none() | range_sets,
    placement=st.none()
    | st.builds(
        Placement, segments, st.sampled_from(PlacedBy), st.none() | st.integers(0, 1 << 56)
    ),
    below=st.none() | st.integers(0, 1 << 56),
    prediction=st.sampled_from(Prediction),
    cma=st.booleans(),
    no_cma=st.none() | range_sets,
    fingerprint=texts,
    intent=st.none()
    | st.builds(
        Intent,
        pair=pairs,
        fingerprint_before=texts,
        ram=range_sets,
        online=range_sets,
        why=texts,
        at_wall=times,
        tried=tried,
    ),
    owed=texts,
    landing=st.none() | st.builds(Landing, pair=pairs, ram=range_sets, segments=segments),
    no_detour=st.none()
    | st.builds(NoDetour, ram=range_sets, below=st.integers(0, 1 << 56), error=texts),
    uncured=drifts,
    degraded=texts,
    last_good=st.none()
    | st.builds(LastGood, pair=pairs, kernel_signature=texts, initrd_signature=texts),
    tried=tried,
    copied=st.booleans(),
    load_count=st.integers(0),
    last_load=st.none()
    | st.builds(
        LoadRecord,
        ended=times,
        ended_wall=times,
        seconds=times,
        succeeded=st.booleans(),
        reason=texts,
        source=texts,
    ),
    failures=st.integers(0),
    last_error=texts,
    next_try=times,
    next_unload=times,
    last_action=texts,
    last_action_wall=times,
    state=st.none() | st.sampled_from(State),
    since_wall=times,
    mode=st.none() | st.sampled_from(Mode),
    told=st.none() | st.builds(Told, state=st.sampled_from(State), why=texts),
)
decisions = st.builds(
    Decision,
    number=st.integers(1),
    at=times,
    image=st.none() | st.sampled_from(ImageName),
    action=st.sampled_from(Action),
    state=st.none() | st.sampled_from(State),
    why=texts,
    errno=st.integers(0, 200),
    seconds=times,
)
holds = st.builds(
    HoldRecord,
    holder=texts,
    hold=st.builds(Hold, number=st.integers(1), who=texts, why=texts, since=times),
)
ledgers = st.builds(
    Ledger,
    boot_id=st.just(BOOT),
    crash=records,
    reboot=records,
    refused_flags=st.integers(0, 1 << 16),
    unarmed_seconds=times,
    decisions=st.lists(decisions, max_size=3).map(tuple),
    holds=st.lists(holds, max_size=3).map(tuple),
    hold_count=st.integers(0),
)


def test_every_field_takes_part_in_the_round_trip() -> None:
    """A field that is added is to be added to the strategies above."""
    strategies: list[tuple[type[BaseModel], Any]] = [(ImageRecord, records), (Ledger, ledgers)]
    for model, strategy in strategies:
        assert set(model.model_fields) == set(strategy.wrapped_strategy.kwargs)


@given(ledgers)
def test_a_ledger_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, book: Ledger
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.json"
    ledger.write(path, book)
    assert ledger.read(path, BOOT) == (book, "")


def test_none_is_a_fresh_one(tmp_path: Path) -> None:
    assert ledger.read(tmp_path / "ledger.json", BOOT) == (Ledger(boot_id=BOOT), "")


def test_that_of_another_boot_is_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger.write(path, Ledger(boot_id="another", crash=ImageRecord(ours=True)))
    assert ledger.read(path, BOOT) == (Ledger(boot_id=BOOT), "")


def damaged() -> dict[str, object]:
    whole = json.loads(Ledger(boot_id=BOOT).model_dump_json())

    def crash(**changes: object) -> object:
        return whole | {"crash": whole["crash"] | changes}

    return {
        "empty": "",
        "cut short": json.dumps(whole)[:-10],
        "another type": [],
        "an unknown key": whole | {"new": 1},
        "no boot_id": {k: v for k, v in whole.items() if k != "boot_id"},
        "ranges as a number": crash(ram=3),
        "ranges of three": crash(ram=[[1, 2, 3]]),
        "ranges of text": crash(ram=[["a", "b"]]),
        "negative": crash(ram=[[-5, 5]]),
        "a drift without its parts": crash(uncured={}),
        "a drift as a list": crash(uncured=[]),
        "an unknown state": crash(state="fine"),
    }


@pytest.mark.parametrize("how", damaged())
def test_a_damaged_one_is_none_and_says_so(tmp_path: Path, how: str) -> None:
    path = tmp_path / "ledger.json"
    content = damaged()[how]
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    book, trouble = ledger.read(path, BOOT)
    assert book == Ledger(boot_id=BOOT)
    assert str(path) in trouble
    assert "foreign" in trouble
    assert "\n" not in trouble


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    path.write_bytes(b"\xff\xfe")
    assert ledger.read(path, BOOT)[0] == Ledger(boot_id=BOOT)


@given(st.binary(max_size=200))
def test_no_content_makes_reading_fail(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.json"
    path.write_bytes(content)
    assert ledger.read(path, BOOT)[0] == Ledger(boot_id=BOOT)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").mkdir()
    assert "directory" in ledger.read(tmp_path / "ledger.json", BOOT)[1]


class Killed(BaseException):
    """Ends the writing, as kill -9 would."""


@pytest.mark.parametrize("moment", ["write", "replace"])
def test_a_kill_while_writing_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "ledger.json"
    ledger.write(path, Ledger(boot_id=BOOT))

    def die(*_: object) -> None:
        raise Killed

    name = "os.replace" if moment == "replace" else "kexecwatchd.ledger.Ledger.model_dump_json"
    monkeypatch.setattr(name, die)
    with pytest.raises(Killed):
        ledger.write(path, Ledger(boot_id=BOOT, crash=ImageRecord(ours=True)))
    monkeypatch.undo()
    assert ledger.read(path, BOOT) == (Ledger(boot_id=BOOT), "")
    after = Ledger(boot_id=BOOT, crash=ImageRecord(ours=True))
    ledger.write(path, after)
    assert ledger.read(path, BOOT) == (after, "")
    assert os.listdir(tmp_path) == ["ledger.json"], "what the kill left behind was written over"


def test_only_root_reads_it(tmp_path: Path) -> None:
    """It has addresses."""
    path = tmp_path / "ledger.json"
    ledger.write(path, Ledger(boot_id=BOOT))
    assert path.stat().st_mode & 0o077 == 0


def test_with_image_changes_that_image_alone() -> None:
    book = Ledger(boot_id=BOOT).with_image(ImageName.REBOOT, owed="it is")
    assert book.of(ImageName.REBOOT) == ImageRecord(owed="it is")
    assert book.of(ImageName.CRASH) == ImageRecord()
