# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong with a configuration, in words: one line, as config.py promises it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Origins = Mapping[tuple[str, ...], Path]
"""The file that each table, as (table,), and each key, as (table, key), was last set in."""


def told(detail: ErrorDetails, origins: Origins, config: type[BaseModel]) -> str:
    """One of pydantic's problems with a `config`, in words: where, what is wrong, what is right."""
    table, key = (*map(str, detail["loc"][:2]), "")[:2]
    if detail["type"] == "table":
        context = detail["ctx"]
        key, wrong = context["key"], context["wrong"]
        right = context["right"] or _expected(config, table, key)
        return f"{_origin(origins, table, context['blame'])}: [{table}] {key}: {wrong}; {right}"
    if detail["type"] == "extra_forbidden":
        wrong, right = _unknown(config, table, key)
    else:
        wrong, right = _wrong(detail), _expected(config, table, key)
    place = f"[{_name(table)}] {_name(key)}".rstrip() if key else f"[{_name(table)}]"
    return f"{_origin(origins, table, key)}: {place}: {wrong}; {right}"


def _origin(origins: Origins, table: str, key: str) -> Path | str:
    return origins.get((table, key)) or origins.get((table,)) or "kexecwatchd.toml"


def _keys(config: type[BaseModel], table: str) -> dict[str, str]:
    """What each key of `table`, or with "" each table, is expected to be."""
    model: Any = config.model_fields[table].annotation if table else config
    return {key: field.description or "" for key, field in model.model_fields.items()}


def _expected(config: type[BaseModel], table: str, key: str) -> str:
    return f"expected {_keys(config, table)[key] if key else _keys(config, '')[table]}"


def _unknown(config: type[BaseModel], table: str, key: str) -> tuple[str, str]:
    kind, known = ("key", _keys(config, table)) if key else ("table", _keys(config, ""))
    near = get_close_matches(key or table, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"unknown {kind}", f"{meant}known here: {', '.join(known)}"


_WORDS = {
    "enum": "is not one of them",
    "greater_than": "is too small",
    "less_than_equal": "is too large",
    "finite_number": "is not a finite number",
    "relative": "is not an absolute path",
    "nul": "contains a NUL",
    "lines": "contains a NUL or a line break",
}
_TYPES = {
    bool: "a boolean",
    str: "a string",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "a table",
}


def _wrong(detail: ErrorDetails) -> str:
    value, kind = detail["input"], detail["type"]
    if kind == "enum" and not isinstance(value, str):
        kind = "type"
    return (
        f"{_value(value)} {_WORDS.get(kind) or 'is ' + _TYPES.get(type(value), 'a date or time')}"
    )


def _value(value: object) -> str:
    """A value as one would write it in TOML, cut short."""
    try:
        text = json.dumps(value, default=str)
    except ValueError:  # Python's limit on the digits of an integer
        return "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."


def _name(name: str) -> str:
    """A table or key as TOML writes it: bare where that is possible."""
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _value(name)
