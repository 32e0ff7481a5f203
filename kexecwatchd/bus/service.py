# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects on the bus: one manager, one per image.

Properties are read from the status that was last published, so a load that takes seconds holds up
nobody. A new Service is made for each connection: dbus-fast drops its exports with the connection.

The signatures are strings because dbus-fast before 4.0 knows nothing else; that is also why this
module does without `from __future__ import annotations`.
"""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from dbus_fast import (
    DBusError,
    Message,
    MessageFlag,
    MessageType,
    NameFlag,
    PropertyAccess,
    RequestNameReply,
)
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_property, method, signal

from kexecwatchd.bus import names, translate
from kexecwatchd.bus.backend import Backend
from kexecwatchd.model import ImageName
from kexecwatchd.report import ImageStatus, Status
from kexecwatchd.requests import LoadFailed, Refused

if TYPE_CHECKING:
    # What the signatures below mean to a type checker.
    b = bool
    s = str
    ss = list[str]

log = logging.getLogger(__name__)

# dbus-fast tells a method nothing about its caller. The message handler runs right before the
# method's task is made, and a task keeps the context that it was made in.
_sender: ContextVar[str] = ContextVar("sender")

# The images are objects of their own. Of the checks, what is wrong is told at a glance; all of them
# are in what GetStatus gives.
_NO_PROPERTIES = ("images", "checks", "holds")
_DERIVED = ("covered", "check_problems", "check_warnings")

IMAGE_PROPERTIES: Mapping[str, str] = translate.signatures(ImageStatus)
MANAGER_PROPERTIES: Mapping[str, str] = translate.signatures(
    Status, without=_NO_PROPERTIES, derived=_DERIVED
)


def _manager_values(status: Status) -> dict[str, Any]:
    return translate.values(status, without=_NO_PROPERTIES, derived=_DERIVED)


class _Published(ServiceInterface):
    """An interface whose properties are a mapping of values."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        super().__init__(name)
        self.values = values

    def update(self, values: dict[str, Any]) -> None:
        """Take the new values and tell the bus which ones differ, if any."""
        changed = {name: value for name, value in values.items() if value != self.values[name]}
        self.values = values
        if changed:
            self.emit_properties_changed(changed)


_P = TypeVar("_P", bound=_Published)


def _publishing(properties: Mapping[str, str]) -> Callable[[type[_P]], type[_P]]:
    """Give a class a read-only D-Bus property for each name and signature."""

    def property_of(name: str, signature: str) -> property:
        def getter(self: _Published) -> Any:
            return self.values[name]

        getter.__name__ = name
        getter.__annotations__["return"] = signature
        return dbus_property(PropertyAccess.READ)(getter)

    def decorate(cls: type[_P]) -> type[_P]:
        for name, signature in properties.items():
            setattr(cls, name, property_of(name, signature))
        return cls

    return decorate


@_publishing(IMAGE_PROPERTIES)
class _Image(_Published):
    """org.kexecwatch1.Image."""

    def __init__(self, status: ImageStatus) -> None:
        super().__init__(names.IMAGE_INTERFACE, translate.values(status))


@_publishing(MANAGER_PROPERTIES)
class _Manager(_Published):
    """org.kexecwatch1.Manager."""

    def __init__(self, bus: MessageBus, backend: Backend, status: Status) -> None:
        super().__init__(names.MANAGER_INTERFACE, _manager_values(status))
        self.status = status
        self._bus = bus
        self._backend = backend

    @method()
    async def Reload(self, image: "s") -> "s":
        await self._require_root("reload an image")
        name = _image_name(image)
        try:
            return (await self._backend.reload(name, "uid 0")).state.value
        except Refused as refusal:
            raise DBusError(names.ERROR_REFUSED, str(refusal)) from refusal
        except LoadFailed as failure:
            raise DBusError(names.ERROR_LOAD_FAILED, str(failure)) from failure
        except Exception as error:
            raise _own_fault("Reload", error) from error

    @method()
    async def Verify(self) -> "b":
        try:
            return (await self._backend.verify()).covered
        except Exception as error:
            raise _own_fault("Verify", error) from error

    @method()
    def GetStatus(self) -> "s":
        return self.status.model_dump_json()

    @method()
    async def GetDetails(self) -> "s":
        await self._require_root("see physical addresses")
        try:
            return self._backend.details().model_dump_json()
        except Exception as error:
            raise _own_fault("GetDetails", error) from error

    @signal()
    def Changed(self, image: str, state: str) -> "ss":
        return [image, state]  # a list: Debian's compiled dbus-fast 2.44 takes nothing else

    async def _require_root(self, purpose: str) -> None:
        """Raise AccessDenied unless the bus says that the caller is uid 0."""
        reply = await self._bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="GetConnectionUnixUser",
                signature="s",
                body=[_sender.get()],
            )
        )
        if reply.message_type is not MessageType.METHOD_RETURN or reply.body != [0]:
            raise DBusError(
                names.ERROR_ACCESS_DENIED, f"Only root may {purpose}: call this again as root."
            )


def _image_name(image: str) -> ImageName:
    try:
        return ImageName(image)
    except ValueError:
        known = " or ".join(repr(name.value) for name in ImageName)
        raise DBusError(
            names.ERROR_INVALID_ARGS, f"There is no image {image!r}: name {known}."
        ) from None


def _own_fault(member: str, error: Exception) -> DBusError:
    """For an error that should not be: the journal gets all of it, the caller only that it was."""
    log.error("%s failed inside the daemon", member, exc_info=error)
    return DBusError(
        names.ERROR_FAILED,
        f"{member} failed inside kexecwatchd with {type(error).__name__}:"
        " see journalctl -u kexecwatchd.",
    )


def _on_message(message: Message) -> bool:
    """Note who calls; True, which drops the message, for a question that wants no answer."""
    if message.message_type is not MessageType.METHOD_CALL:
        return False
    _sender.set(message.sender or "")
    # dbus-fast logs an error when it cannot serve one of these: anyone could fill the journal.
    unanswered = bool(message.flags & MessageFlag.NO_REPLY_EXPECTED)
    return unanswered and message.interface != names.MANAGER_INTERFACE


class Service:
    """kexecwatchd's objects on one connection."""

    def __init__(self, bus: MessageBus, backend: Backend) -> None:
        status = backend.status()
        self._bus = bus
        self._manager = _Manager(bus, backend, status)
        self._images = {image.image: _Image(image) for image in status.images}

    @property
    def connected(self) -> bool:
        return self._bus.connected

    async def start(self) -> None:
        """Export the objects, then take the name, so that nobody finds the name without them.

        Raises DBusError when the bus forbids the name, OSError when another process has it.
        """
        self._bus.add_message_handler(_on_message)
        self._bus.export(names.MANAGER_PATH, self._manager)
        for name, image in self._images.items():
            self._bus.export(names.image_path(name), image)
        reply = await self._bus.request_name(names.BUS_NAME, NameFlag.DO_NOT_QUEUE)
        if reply is not RequestNameReply.PRIMARY_OWNER:
            raise OSError(
                f"{names.BUS_NAME} belongs to another process: does a second kexecwatchd run?"
            )

    def publish(self, status: Status) -> None:
        """Take the new status and signal exactly what changed since the last one."""
        before = {image.image: image.state for image in self._manager.status.images}
        self._manager.status = status
        for image in status.images:
            self._images[image.image].update(translate.values(image))
        self._manager.update(_manager_values(status))
        for image in status.images:
            if image.state != before[image.image]:
                self._manager.Changed(image.image.value, image.state.value)
