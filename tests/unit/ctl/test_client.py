# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.ctl.client import AnswerError, read
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import Details, ImageStatus, Status

IMAGE = ImageStatus(
    image=ImageName.CRASH,
    mode=Mode.ENSURE,
    configured_mode=Mode.ENSURE,
    state=State.STALE,
    reason="memory came",
    covered=False,
    loaded=True,
    foreign=False,
)
STATUS = Status(daemon_version="1", kernel_release="6.12", looked_at=1.5, images=[IMAGE, IMAGE])


def test_reads_what_the_model_writes() -> None:
    assert read(Status, STATUS.model_dump_json()) == STATUS


def test_fields_of_a_newer_daemon_are_left_out_wherever_they_are() -> None:
    document: dict[str, Any] = STATUS.model_dump(mode="json")
    document["new"] = 1
    for image in document["images"]:
        image["new"] = {"deep": [1]}
        image["newer"] = None
        image["drift"]["new"] = 2
        image["last_load"]["new"] = "x"
    assert read(Status, json.dumps(document)) == STATUS


def test_another_schema_is_an_error_that_names_both() -> None:
    document = STATUS.model_dump(mode="json") | {"schema_version": 2}
    with pytest.raises(AnswerError, match=r"schema 2.* knows 1.*same version"):
        read(Status, json.dumps(document))


def test_a_missing_field_is_named() -> None:
    document: dict[str, Any] = STATUS.model_dump(mode="json")
    del document["images"][1]["covered"]
    document["new"] = 1
    with pytest.raises(AnswerError, match=r"(?s)Status cannot be read.*images.*1.*covered"):
        read(Status, json.dumps(document))


def test_an_unknown_word_is_no_state() -> None:
    document: dict[str, Any] = STATUS.model_dump(mode="json")
    document["images"][0]["state"] = "dreaming"
    with pytest.raises(AnswerError, match="dreaming"):
        read(Status, json.dumps(document))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.text()
    | JSON.map(json.dumps)
    | st.fixed_dictionaries({"schema_version": st.just(1), "images": JSON}).map(json.dumps)
)
def test_nonsense_is_an_error_and_never_a_crash(text: str) -> None:
    for model in (Status, Details):
        try:
            read(model, text)
        except AnswerError:
            pass
        else:
            assert model is Details
