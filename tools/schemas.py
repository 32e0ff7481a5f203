# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes schema/*.schema.json: JSON Schemas of all that kexecwatchctl prints with --json.

    python3 -m tools.schemas

Fields may be added without a new schema version, so the schemas allow for more than they name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kexecwatchd import report
from kexecwatchd.memorypicture import MemoryPicture

DIRECTORY = Path(__file__).parent.parent / "schema"

DOCUMENTS: Mapping[str, type[BaseModel]] = {
    "status": report.StatusDocument,
    "map": MemoryPicture,
    "check": report.CheckReport,
    "history": report.History,
    "config": report.ConfigReport,
    "mode": report.ModeReport,
    "monitor": report.MonitorLine,
}
"""What each file describes; `verify` prints what `status` does."""


def schemas() -> dict[str, str]:
    """Text by file name."""
    return {
        f"{name}.schema.json": json.dumps(_schema(name, model), indent=2) + "\n"
        for name, model in DOCUMENTS.items()
    }


def _schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    version = report.SCHEMA_VERSION
    schema = _open(model.model_json_schema(mode="serialization"))
    schema["required"] = ["schema_version", *schema.get("required", [])]
    schema["properties"]["schema_version"] = {"const": version, "title": "Schema Version"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:kexecwatchd:{name}:{version}",
        **schema,
    }


def _open(part: Any) -> Any:
    """The same without `additionalProperties`, where that only says yes or no."""
    if isinstance(part, list):
        return [_open(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _open(value)
        for key, value in part.items()
        if key != "additionalProperties" or isinstance(value, dict)
    }


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (DIRECTORY / name).write_text(text)
