# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schemas that we ship: they are of today, and they are of what is printed."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from kexecwatchd.report import History, ModeReport, StatusDocument
from tests.integration.harness import DECISION, FakeBackend
from tools import schemas

STATUS = StatusDocument(**dict(FakeBackend().now), details=FakeBackend().details())


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((schemas.DIRECTORY / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_files_are_what_the_tool_makes() -> None:
    files = {path.name: path.read_text() for path in schemas.DIRECTORY.iterdir()}
    assert files == schemas.schemas(), "run make generated"


@pytest.mark.parametrize("name", schemas.DOCUMENTS)
def test_each_document_says_its_schema_version(name: str) -> None:
    schema = validator(name).schema
    assert schema["properties"]["schema_version"]["const"] == 1
    assert schema["$id"] == f"urn:kexecwatchd:{name}:1"


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("status", STATUS.model_dump(mode="json")),
        ("status", STATUS.model_dump(mode="json", exclude={"details"})),
        ("history", History(decisions=[DECISION]).model_dump(mode="json")),
        ("mode", ModeReport(modes=[]).model_dump(mode="json")),
    ],
)
def test_documents_are_as_described_and_may_have_more(name: str, document: dict[str, Any]) -> None:
    check = validator(name)
    check.validate({**document, "added_later": 1})
    with pytest.raises(jsonschema.ValidationError):
        check.validate({**document, "schema_version": 2})
    with pytest.raises(jsonschema.ValidationError, match="schema_version"):
        check.validate({key: value for key, value in document.items() if key != "schema_version"})


def test_a_wrong_value_is_none_of_it() -> None:
    document = STATUS.model_dump(mode="json")
    document["images"][0]["state"] = "fine"
    with pytest.raises(jsonschema.ValidationError, match="fine"):
        validator("status").validate(document)
