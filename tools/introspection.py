# SPDX-License-Identifier: GPL-2.0-or-later
"""The interfaces on D-Bus as data, and the introspection files made from it.

    python -m tools.introspection        write dbus/*.xml

Members and signatures are those that dbus-fast serves. What they mean stands once: in the
docstrings of bus/service.py and in the descriptions of report.py's fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

from dbus_fast import introspection
from dbus_fast.service import ServiceInterface
from pydantic import BaseModel

from kexecwatchd.bus import names, service, translate
from kexecwatchd.bus.published import Published
from kexecwatchd.report import Decision, ImageStatus, Status

DIRECTORY = Path(__file__).resolve().parent.parent / "dbus"

# dbus-fast knows no names for what a method answers.
_ANSWERS = {
    "Reload": "state",
    "Discard": "state",
    "SetMode": "state",
    "Hold": "number",
    "Verify": "covered",
    "GetStatus": "status",
    "GetHistory": "history",
    "GetDetails": "details",
}

# The dictionaries that signals carry.
_CARRIED: dict[str, type[BaseModel]] = {"decision": Decision}

_DOC = "org.gtk.GDBus.DocString"
_DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)


@dataclass(frozen=True, slots=True)
class Value:
    """A property, an argument, or a dictionary's entry (`keys`: those of a{sv} and aa{sv}).

    Arguments have no description of their own: their method's tells.
    """

    name: str
    signature: str
    description: str = ""
    keys: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    description: str
    takes: tuple[Value, ...]
    gives: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Signal:
    name: str
    description: str
    carries: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    description: str
    methods: tuple[Method, ...]
    signals: tuple[Signal, ...]
    properties: tuple[Value, ...]


def interfaces() -> tuple[Interface, Interface]:
    """The manager's and the image's, members in the order of the code."""
    manager = _values(Status, service.MANAGER_PROPERTIES)
    image = _values(ImageStatus, service.IMAGE_PROPERTIES)
    return (
        _interface(service.Manager, names.MANAGER_INTERFACE, manager),
        _interface(service.Image, names.IMAGE_INTERFACE, image),
    )


def xml(interface: Interface) -> str:
    """The introspection file of one interface."""
    node = ElementTree.Element("node")
    root = _element(node, "interface", interface.description, name=interface.name)
    for method in interface.methods:
        element = _element(root, "method", method.description, name=method.name)
        _arguments(element, method.takes, direction="in")
        _arguments(element, method.gives, direction="out")
    for signal in interface.signals:
        element = _element(root, "signal", signal.description, name=signal.name)
        _arguments(element, signal.carries)
    for value in interface.properties:
        text = f"{value.description}. {_listed(value.keys)}" if value.keys else value.description
        attributes = {"name": value.name, "type": value.signature, "access": "read"}
        _element(root, "property", text, **attributes)
    ElementTree.indent(node)
    body = ElementTree.tostring(node, encoding="unicode")
    return f"<!-- SPDX-License-Identifier: GPL-2.0-or-later -->\n{_DOCTYPE}{body}\n"


def files() -> dict[Path, str]:
    """Where each file belongs, and what it is to hold."""
    return {DIRECTORY / f"{interface.name}.xml": xml(interface) for interface in interfaces()}


def _interface(cls: type[Published], name: str, properties: tuple[Value, ...]) -> Interface:
    # What dbus-fast finds in the class does not depend on what the constructor is given.
    bare = cls.__new__(cls)
    ServiceInterface.__init__(bare, name)
    served = bare.introspect()
    order = list(vars(cls))
    return Interface(
        name,
        _text(cls),
        tuple(
            _method(method, _text(getattr(cls, method.name)))
            for method in sorted(served.methods, key=lambda m: order.index(m.name))
        ),
        tuple(
            _signal(signal, getattr(cls, signal.name))
            for signal in sorted(served.signals, key=lambda s: order.index(s.name))
        ),
        properties,
    )


def _method(method: introspection.Method, description: str) -> Method:
    takes = tuple(Value(str(arg.name), str(arg.signature)) for arg in method.in_args)
    gives = tuple(Value(_ANSWERS[method.name], str(arg.signature)) for arg in method.out_args)
    return Method(method.name, description, takes, gives)


def _signal(signal: introspection.Signal, function: Any) -> Signal:
    _self, *arguments = inspect.signature(function).parameters
    carries = tuple(
        Value(name, str(arg.signature), keys=_entries(_CARRIED.get(name)))
        for name, arg in zip(arguments, signal.args, strict=True)
    )
    return Signal(signal.name, _text(function), carries)


def _values(model: type[BaseModel], properties: Any) -> tuple[Value, ...]:
    """The properties that are fields of the model, and those that are derived from them."""
    derived = {
        translate.property_name(name): _text(member)
        for name, member in vars(model).items()
        if isinstance(member, property)
    }
    fields = {translate.property_name(field): field for field in model.model_fields}
    found = []
    for name, signature in properties.items():
        if name in fields:
            found.append(_value(model, fields[name], name, signature))
        else:
            found.append(Value(name, signature, derived[name]))
    return tuple(found)


def _value(model: type[BaseModel], field: str, name: str, signature: str) -> Value:
    info = model.model_fields[field]
    unit = ""
    if info.annotation is float:
        unit = " (seconds)" if signature == "d" else " (microseconds since 1970)"
    description = f"{info.description or ''}{unit}"
    return Value(name, signature, description, _entries(_model_in(info.annotation)))


def _entries(model: type[BaseModel] | None) -> tuple[Value, ...]:
    """A dictionary's; its keys are the names of the fields."""
    if model is None:
        return ()
    signatures = translate.signatures(model)
    return tuple(
        _value(model, field, field, signatures[translate.property_name(field)])
        for field in model.model_fields
    )


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, or holds a list of."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _text(documented: Any) -> str:
    return " ".join((documented.__doc__ or "").split())


def _element(
    parent: ElementTree.Element, tag: str, description: str, **attributes: str
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag, attributes)
    if description:
        ElementTree.SubElement(element, "annotation", {"name": _DOC, "value": description})
    return element


def _arguments(parent: ElementTree.Element, values: tuple[Value, ...], **direction: str) -> None:
    for value in values:
        attributes = {"name": value.name, "type": value.signature, **direction}
        _element(parent, "arg", _listed(value.keys), **attributes)


def _listed(keys: tuple[Value, ...]) -> str:
    """A dictionary's entries in words."""
    return " ".join(_lines(keys))


def _lines(keys: tuple[Value, ...], within: str = "") -> Iterator[str]:
    for key in keys:
        name = f"{within}{key.name}"
        yield f"{name} ({key.signature}): {key.description}."
        yield from _lines(key.keys, f"{name}.")


def main() -> None:
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
