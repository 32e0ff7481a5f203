# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from dbus_fast import Message, Variant
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from kexecwatchd.bus import translate
from kexecwatchd.bus.service import IMAGE_PROPERTIES, MANAGER_PROPERTIES
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import DriftSizes, ImageStatus, LastLoad

# What a `t` holds; times are microseconds, so there is room for half a million years.
COUNTS = st.integers(0, 2**64 - 1)
TIMES = st.floats(0, 2**63 / 1e6)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))

DRIFTS = st.builds(DriftSizes, **dict.fromkeys(DriftSizes.model_fields, COUNTS))
LOADS = st.builds(
    LastLoad, at=TIMES, seconds=st.floats(0, 1e6), succeeded=..., reason=TEXT, source=TEXT
)
IMAGES = st.builds(
    ImageStatus,
    image=st.sampled_from(ImageName),
    mode=st.sampled_from(Mode),
    configured_mode=st.sampled_from(Mode),
    state=st.sampled_from(State),
    covered=...,
    loaded=...,
    foreign=...,
    since=TIMES,
    last_action_at=TIMES,
    next_try=TIMES,
    load_count=COUNTS,
    drift=DRIFTS,
    last_load=LOADS,
    **dict.fromkeys(
        ["reason", "degraded", "proof", "last_error", "last_action", "next_step"], TEXT
    ),
)


@given(IMAGES)
def test_every_report_can_be_sent(image: ImageStatus) -> None:
    values = translate.values(image)
    assert values.keys() == IMAGE_PROPERTIES.keys()
    body = {name: Variant(IMAGE_PROPERTIES[name], value) for name, value in values.items()}
    message = Message.new_signal("/x", "x.y", "Z", "a{sv}", [body])
    message.serial = 1
    assert message._marshall(False)


@given(IMAGES)
def test_values_are_the_models(image: ImageStatus) -> None:
    values = translate.values(image)
    assert values["LoadCount"] == image.load_count
    assert values["Drift"]["extra_bytes"] == Variant("t", image.drift.extra_bytes)
    assert values["Since"] == pytest.approx(image.since * 1e6, abs=1)
    assert values["LastLoad"]["seconds"] == Variant("d", image.last_load.seconds)


def test_defaults_written_as_whole_numbers_keep_their_signature() -> None:
    """pydantic does not turn the default 0 of a float into 0.0."""
    assert translate.values(LastLoad(), without=frozenset({"reason", "source"})) == {
        "At": 0,
        "Seconds": 0.0,
        "Succeeded": False,
    }
    assert isinstance(translate.values(LastLoad())["Seconds"], float)


def test_the_signatures_that_others_rely_on() -> None:
    """These are interface: a change here breaks who reads the bus."""
    assert IMAGE_PROPERTIES == {
        "Image": "s",
        "Mode": "s",
        "ConfiguredMode": "s",
        "State": "s",
        "Reason": "s",
        "Covered": "b",
        "Loaded": "b",
        "Foreign": "b",
        "Guarded": "b",
        "Degraded": "s",
        "Proof": "s",
        "Since": "t",
        "Drift": "a{sv}",
        "InProgress": "s",
        "InProgressSince": "t",
        "LoadCount": "t",
        "LastLoad": "a{sv}",
        "LastError": "s",
        "LastAction": "s",
        "LastActionAt": "t",
        "NextStep": "s",
        "NextTry": "t",
        "StartObstacle": "s",
    }
    assert MANAGER_PROPERTIES == {
        "SchemaVersion": "t",
        "DaemonVersion": "s",
        "KernelRelease": "s",
        "LookedAt": "t",
        "Problem": "s",
        "ConfigError": "s",
        "ConfiguredAt": "t",
        "UnarmedSeconds": "d",
        "Holds": "aa{sv}",
        "SwitchedOff": "as",
        "Covered": "b",
        "CheckProblems": "as",
        "CheckWarnings": "as",
    }


class Derived(BaseModel):
    texts: list[str]

    @property
    def sorted(self) -> list[str]:
        return sorted(self.texts)


def test_a_nul_does_not_reach_the_bus() -> None:
    values = translate.values(LastLoad(reason="a\0b"))
    assert values["Reason"] == "a\N{REPLACEMENT CHARACTER}b"
    assert translate.values(Derived(texts=["a\0b"]), derived=("sorted",)) == {
        "Texts": ["a\N{REPLACEMENT CHARACTER}b"],
        "Sorted": ["a\N{REPLACEMENT CHARACTER}b"],
    }


def test_a_field_without_rule_is_refused_by_name() -> None:
    class Odd(BaseModel):
        list_of_things: list[int] = []

    with pytest.raises(TypeError, match="list_of_things"):
        translate.signatures(Odd)
    assert translate.signatures(Odd, without=frozenset({"list_of_things"})) == {}


@pytest.mark.parametrize(
    "annotation",
    [list[int], list[list[str]], dict[str, str], int | None, str | int, list[str | None]],
)
def test_what_has_no_rule_is_refused_by_name(annotation: Any) -> None:
    odd = create_model("Odd", thing=(annotation, ...))
    with pytest.raises(TypeError, match="'thing'"):
        translate.signatures(odd)


class Optional(BaseModel):
    image: ImageName | None = None
    state: State | None = None


def test_what_there_need_not_be_is_empty() -> None:
    assert translate.signatures(Optional) == {"Image": "s", "State": "s"}
    assert translate.values(Optional()) == {"Image": "", "State": ""}
    assert translate.values(Optional(image=ImageName.CRASH, state=State.STALE)) == {
        "Image": "crash",
        "State": "stale",
    }


class Several(BaseModel):
    loads: list[LastLoad]


def test_a_list_of_models_is_one_of_dictionaries() -> None:
    assert translate.signatures(Several) == {"Loads": "aa{sv}"}
    assert translate.values(Several(loads=[])) == {"Loads": []}
    (first, second) = translate.values(Several(loads=[LastLoad(at=1.5), LastLoad()]))["Loads"]
    assert first["at"] == Variant("t", 1_500_000)
    assert second == translate.dictionary(LastLoad())
