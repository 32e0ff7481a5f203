# SPDX-License-Identifier: GPL-2.0-or-later
"""report.py's models as D-Bus properties, by rule, so that JSON and D-Bus cannot disagree.

A field `last_load` is the property `LastLoad`. Text is `s` and bool `b`. Counts and sizes are `t`,
and so are times: microseconds of the wall clock as everywhere in systemd, 0 where there is none.
A float whose name ends in `seconds` is a length of time, in seconds, `d`. A model within a model is
`a{sv}` with the names of its fields as keys. Nothing else may stand in a published model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbus_fast import Variant
from pydantic import BaseModel


def property_name(field: str) -> str:
    """`last_load` -> `LastLoad`."""
    return "".join(word.capitalize() for word in field.split("_"))


def signatures(model: type[BaseModel], *, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Property name -> D-Bus signature for each field. Raises TypeError for one without a rule."""
    return {
        property_name(field): _rule(field, info.annotation)[0]
        for field, info in model.model_fields.items()
        if field not in without
    }


def values(model: BaseModel, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Property name -> value for each field, fit for the signature that signatures() gives."""
    return {
        property_name(field): _rule(field, info.annotation)[1](getattr(model, field))
        for field, info in type(model).model_fields.items()
        if field not in without
    }


def _rule(field: str, annotation: object) -> tuple[str, Callable[[Any], Any]]:
    """The signature of a field and what turns its value into one of that signature."""
    if isinstance(annotation, type):
        if issubclass(annotation, bool):
            return "b", bool
        if issubclass(annotation, int):
            return "t", int
        if issubclass(annotation, float):
            return ("d", float) if field.endswith("seconds") else ("t", _microseconds)
        if issubclass(annotation, str):
            return "s", _text
        if issubclass(annotation, BaseModel):
            return "a{sv}", _dictionary
    raise TypeError(f"no rule turns field {field!r} of type {annotation!r} into a D-Bus property")


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _text(text: str) -> str:
    # A NUL in a string makes the bus drop the connection of whoever sent it.
    return str(text).replace("\0", "\N{REPLACEMENT CHARACTER}")


def _dictionary(model: BaseModel) -> dict[str, Variant]:
    entries = {}
    for field, info in type(model).model_fields.items():
        signature, convert = _rule(field, info.annotation)
        entries[field] = Variant(signature, convert(getattr(model, field)))
    return entries
