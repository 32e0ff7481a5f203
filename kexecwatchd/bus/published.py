# SPDX-License-Identifier: GPL-2.0-or-later
"""A D-Bus interface whose properties are a mapping of values, which translate.py makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dbus_fast import PropertyAccess
from dbus_fast.service import ServiceInterface, dbus_property


class Published(ServiceInterface):
    """Read-only properties, and a signal whenever one of them has another value."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        super().__init__(name)
        self.values = values

    def update(self, values: dict[str, Any]) -> None:
        """Take the new values and tell the bus which ones differ, if any."""
        changed = {name: value for name, value in values.items() if value != self.values[name]}
        self.values = values
        if changed:
            self.emit_properties_changed(changed)


_P = TypeVar("_P", bound=Published)


def publishing(properties: Mapping[str, str]) -> Callable[[type[_P]], type[_P]]:
    """Give a class a property for each name and signature."""

    def property_of(name: str, signature: str) -> property:
        def getter(self: Published) -> Any:
            return self.values[name]

        getter.__name__ = name
        getter.__annotations__["return"] = signature
        return dbus_property(PropertyAccess.READ)(getter)

    def decorate(cls: type[_P]) -> type[_P]:
        for name, signature in properties.items():
            setattr(cls, name, property_of(name, signature))
        return cls

    return decorate
