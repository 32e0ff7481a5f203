# SPDX-License-Identifier: GPL-2.0-or-later
"""report.py's models as D-Bus properties, by rule, so that JSON and D-Bus cannot disagree.

A field `last_load` is the property `LastLoad`. Text is `s` and bool `b`. Counts and sizes are `t`,
and so are times: microseconds of the wall clock as everywhere in systemd, 0 where there is none.
A float whose name ends in `seconds` is a length of time, in seconds, `d`. A model within a model is
`a{sv}` with the names of its fields as keys. Nothing else may stand in a published model.
"""

from __future__ import annotations

from typing import Any

from dbus_fast import Variant
from pydantic import BaseModel


def property_name(field: str) -> str:
    """`last_load` -> `LastLoad`."""
    return "".join(word.capitalize() for word in field.split("_"))


def signatures(model: type[BaseModel], *, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Property name -> D-Bus signature for each field. Raises TypeError for one without a rule."""
    return {
        property_name(field): _signature(field, info.annotation)
        for field, info in model.model_fields.items()
        if field not in without
    }


def values(model: BaseModel, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Property name -> value for each field, fit for the signature that signatures() gives."""
    return {
        property_name(field): _value(field, getattr(model, field))
        for field in type(model).model_fields
        if field not in without
    }


def _signature(field: str, annotation: object) -> str:
    if isinstance(annotation, type):
        if issubclass(annotation, bool):
            return "b"
        if issubclass(annotation, int):
            return "t"
        if issubclass(annotation, float):
            return "d" if field.endswith("seconds") else "t"
        if issubclass(annotation, str):
            return "s"
        if issubclass(annotation, BaseModel):
            return "a{sv}"
    raise TypeError(f"no rule turns field {field!r} of type {annotation!r} into a D-Bus property")


def _value(field: str, value: Any) -> Any:
    if isinstance(value, str):
        # A NUL in a string makes the bus drop the connection of whoever sent it.
        return str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, float) and not field.endswith("seconds"):
        return round(value * 1_000_000)
    if isinstance(value, BaseModel):
        return {
            name: Variant(_signature(name, info.annotation), _value(name, getattr(value, name)))
            for name, info in type(value).model_fields.items()
        }
    return value
