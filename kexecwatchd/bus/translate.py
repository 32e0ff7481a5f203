# SPDX-License-Identifier: GPL-2.0-or-later
"""report.py's models as D-Bus properties, by rule, so that JSON and D-Bus cannot disagree.

A field `last_load` is the property `LastLoad`. Text is `s` and bool `b`. Counts and sizes are `t`,
and so are times: microseconds of the wall clock as everywhere in systemd, 0 where there is none.
A float whose name ends in `seconds` is a length of time, in seconds, `d`. A model within a model is
`a{sv}` with the names of its fields as keys; a list of models is `aa{sv}`, one of texts `as`. Text
that there need not be (`X | None`) is `s`, empty where there is none. Nothing else may stand in a
published model. What is derived from the fields (a property of the model's class) follows the same
rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from dbus_fast import Variant
from pydantic import BaseModel


def property_name(field: str) -> str:
    """`last_load` -> `LastLoad`."""
    return "".join(word.capitalize() for word in field.split("_"))


def signatures(
    model: type[BaseModel], *, without: Collection[str] = (), derived: Collection[str] = ()
) -> dict[str, str]:
    """Property name -> D-Bus signature for each field, and for each `derived` property.

    Raises TypeError for one without a rule.
    """
    return {
        property_name(field): _rule(field, annotation)[0]
        for field, annotation in _fields(model, without, derived)
    }


def values(
    model: BaseModel, *, without: Collection[str] = (), derived: Collection[str] = ()
) -> dict[str, Any]:
    """Property name -> value for each, fit for the signature that signatures() gives."""
    return {
        property_name(field): _rule(field, annotation)[1](getattr(model, field))
        for field, annotation in _fields(type(model), without, derived)
    }


def _fields(
    model: type[BaseModel], without: Collection[str], derived: Collection[str]
) -> Iterator[tuple[str, object]]:
    for field, info in model.model_fields.items():
        if field not in without:
            yield field, info.annotation
    for name in derived:
        yield name, get_type_hints(getattr(model, name).fget)["return"]


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
            return "s", text
        if issubclass(annotation, BaseModel):
            return "a{sv}", dictionary
    if annotation == list[str]:
        return "as", _texts
    first, *others = get_args(annotation) or (None,)
    if isinstance(first, type):
        if get_origin(annotation) is list and issubclass(first, BaseModel):
            return "aa{sv}", _dictionaries
        if others == [NoneType] and issubclass(first, str):
            return "s", _optional_text
    raise TypeError(f"no rule turns field {field!r} of type {annotation!r} into a D-Bus property")


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def text(value: str) -> str:
    """The same, fit to be sent: a NUL makes the bus drop the connection of whoever sends it."""
    return str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")


def _texts(values: list[str]) -> list[str]:
    return [text(value) for value in values]


def _optional_text(value: str | None) -> str:
    return "" if value is None else text(value)


def dictionary(model: BaseModel) -> dict[str, Variant]:
    """Field name -> value: an `a{sv}`."""
    entries = {}
    for field, info in type(model).model_fields.items():
        signature, convert = _rule(field, info.annotation)
        entries[field] = Variant(signature, convert(getattr(model, field)))
    return entries


def _dictionaries(models: list[BaseModel]) -> list[dict[str, Variant]]:
    return [dictionary(model) for model in models]
