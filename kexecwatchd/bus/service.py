# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects on the bus: one manager, one per image.

Properties are read from the status that was last published, so a load that takes seconds holds up
nobody. A new Service is made for each connection: dbus-fast drops its exports with the connection.

The signatures are strings because dbus-fast before 4.0 knows nothing else; that is also why this
module does without `from __future__ import annotations`.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from dbus_fast import (
    DBusError,
    Message,
    MessageFlag,
    MessageType,
    NameFlag,
    RequestNameReply,
    Variant,
)
from dbus_fast.aio import MessageBus
from dbus_fast.service import method, signal

from kexecwatchd.bus import errors, names, polkit, translate
from kexecwatchd.bus.backend import Backend
from kexecwatchd.bus.holds import Holds
from kexecwatchd.bus.peers import Peers
from kexecwatchd.bus.polkit import Caller, Right
from kexecwatchd.bus.published import Published, publishing
from kexecwatchd.model import ImageName, Mode
from kexecwatchd.report import Decision, ImageStatus, Status

if TYPE_CHECKING:
    # What the signatures below mean to a type checker.
    b = bool
    s = str
    t = int
    ss = list[str]

# dbus-fast tells a method nothing about its caller. The message handler runs right before the
# method's task is made, and a task keeps the context that it was made in.
_call: ContextVar[Message] = ContextVar("call")

# The images are objects of their own. Of the checks, what is wrong is told at a glance; all of them
# are in what GetStatus gives.
NO_PROPERTIES = ("images", "checks")
DERIVED = ("covered", "check_problems", "check_warnings")

IMAGE_PROPERTIES: Mapping[str, str] = translate.signatures(ImageStatus)
MANAGER_PROPERTIES: Mapping[str, str] = translate.signatures(
    Status, without=NO_PROPERTIES, derived=DERIVED
)

# SetMode's word for "the configured mode again"; an empty one says the same.
_CONFIGURED = "configured"


def _manager_values(status: Status) -> dict[str, Any]:
    return translate.values(status, without=NO_PROPERTIES, derived=DERIVED)


@publishing(IMAGE_PROPERTIES)
class Image(Published):
    """One image that the kernel holds, or could hold: /org/kexecwatch1/image/crash and
    /org/kexecwatch1/image/reboot. Times are microseconds of the wall clock since 1970, 0 where
    there is none; sizes are bytes."""

    def __init__(self, status: ImageStatus) -> None:
        super().__init__(names.IMAGE_INTERFACE, translate.values(status))


_P = ParamSpec("_P")
_R = TypeVar("_R")
_Method = Callable[Concatenate["Manager", _P], Awaitable[_R]]


def _answering(function: _Method[_P, _R]) -> _Method[_P, _R]:
    """Have every error of a method come out as one of errors.py."""

    @functools.wraps(function)
    async def answering(self: "Manager", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await function(self, *args, **kwargs)
        except Exception as error:
            if not self._bus.connected:
                # It was the bus that failed, and nobody hears the answer.
                raise DBusError(names.ERROR_FAILED, "The bus is gone.") from error
            answer = errors.answer(function.__name__, error)
            if _call.get().flags & MessageFlag.NO_REPLY_EXPECTED:
                # dbus-fast logs an error that nobody waits for: anyone could fill the journal.
                return cast(_R, None)
            raise answer from error

    return answering


@publishing(MANAGER_PROPERTIES)
class Manager(Published):
    """The daemon, and what it can be asked to do: /org/kexecwatch1. Everyone may read; root may
    change things, and so may whom polkit lets. Times are microseconds of the wall clock since 1970,
    0 where there is none; sizes are bytes. No physical addresses are told but by GetDetails."""

    def __init__(self, bus: MessageBus, backend: Backend, status: Status) -> None:
        super().__init__(names.MANAGER_INTERFACE, _manager_values(status))
        self.status = status
        self.peers = Peers(bus)
        self.holds = Holds(backend, self.peers)
        self._bus = bus
        self._backend = backend

    @method()
    @_answering
    async def Reload(self, image: "s") -> "s":
        """Load an image ("crash" or "reboot") again, whatever its state, and answer with its state
        when that is done. Action org.kexecwatch1.reload."""
        name = _image_name(image)
        by = await self._authorized(Right.RELOAD, image=name.value)
        return (await self._backend.reload(name, by)).state.value

    @method()
    @_answering
    async def Discard(self, image: "s") -> "s":
        """Unload an image, load no other in its place, and answer with its state when that is done.
        Refused in every mode but "follow": "ensure" would load another at once. Action
        org.kexecwatch1.discard."""
        name = _image_name(image)
        by = await self._authorized(Right.DISCARD, image=name.value)
        return (await self._backend.discard(name, by)).state.value

    @method()
    @_answering
    async def SetMode(self, image: "s", mode: "s") -> "s":
        """Have an image kept in another mode ("ensure", "follow", "observe" or "off") than the
        configured one until the next boot, and answer with its state. "configured", or an empty
        text: the configured one again. Action org.kexecwatch1.set-mode."""
        name = _image_name(image)
        wanted = _mode(mode)
        details = {"image": name.value, "mode": wanted or _CONFIGURED}
        by = await self._authorized(Right.SET_MODE, **details)
        return (await self._backend.set_mode(name, wanted, by)).state.value

    @method()
    @_answering
    async def Hold(self, who: "s", why: "s") -> "t":
        """Have no image loaded while you work on the machine. Answers with the number that Release
        takes, as soon as no load is under way any more. The hold ends with the connection that
        took it. Everyone sees who holds, and why. Action org.kexecwatch1.hold."""
        if not who.strip():
            raise DBusError(names.ERROR_INVALID_ARGS, "Say who holds: 'who' must not be empty.")
        _require_line("who", who)
        _require_line("why", why)
        by = await self._authorized(Right.HOLD)
        return await self.holds.take(_sender(), who, why, by)

    @method()
    @_answering
    async def Release(self, number: "t") -> None:
        """End a hold that this connection took. Whoever took one may."""
        by = f"uid {await self._uid()}"
        await self.holds.release(_sender(), number, by)

    @method()
    @_answering
    async def Verify(self) -> "b":
        """Look at the machine and at the loaded images at this very moment, and ask the checks.
        True: both images are what their modes ask for (Covered)."""
        return (await self._backend.verify()).covered

    @method()
    @_answering
    async def GetStatus(self) -> "s":
        """All that is known, as JSON: what the properties of all objects say, and the answers of
        the checks. As last seen, so at once."""
        return self.status.model_dump_json()

    @method()
    @_answering
    async def GetHistory(self) -> "s":
        """What was decided in this boot, the oldest first, as JSON."""
        return self._backend.history().model_dump_json()

    @method()
    @_answering
    async def GetDetails(self) -> "s":
        """The physical addresses behind the state, as JSON. For root alone, and no matter of
        polkit's."""
        if await self._uid() != 0:
            raise DBusError(
                names.ERROR_ACCESS_DENIED,
                "Only root may see physical addresses: call this again as root.",
            )
        return self._backend.details().model_dump_json()

    @signal()
    def Changed(self, image: str, state: str) -> "ss":
        """An image's state is another one: which image, and the state."""
        return [image, state]  # a list: Debian's compiled dbus-fast 2.44 takes nothing else

    @signal()
    def Decided(self, decision: dict[str, Variant]) -> "a{sv}":  # type: ignore[valid-type]  # noqa: F722
        """Something was decided: an entry of the history."""
        return decision

    async def _authorized(self, right: Right, **details: str) -> str:
        """Who asks, for the history, once polkit lets them; else raises DBusError."""
        dialog = bool(_call.get().flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION)
        caller = Caller(_sender(), await self._uid(), dialog)
        await polkit.authorize(self._bus, self.peers, caller, right, details)
        return f"uid {caller.uid}"

    async def _uid(self) -> int:
        """The caller's, as the bus knows it."""
        uid = await self.peers.uid(_sender())
        if uid is None:
            raise DBusError(names.ERROR_ACCESS_DENIED, "You have left the bus: come again.")
        return uid


def _sender() -> str:
    return _call.get().sender or ""


def _image_name(image: str) -> ImageName:
    try:
        return ImageName(image)
    except ValueError:
        known = " or ".join(repr(name.value) for name in ImageName)
        raise DBusError(
            names.ERROR_INVALID_ARGS, f"There is no image {image!r}: name {known}."
        ) from None


def _mode(mode: str) -> Mode | None:
    """None for the configured one."""
    if mode in ("", _CONFIGURED):
        return None
    try:
        return Mode(mode)
    except ValueError:
        known = ", ".join(repr(word.value) for word in Mode)
        raise DBusError(
            names.ERROR_INVALID_ARGS,
            f"There is no mode {mode!r}: name {known}, or {_CONFIGURED!r} for the configured one.",
        ) from None


def _require_line(name: str, text: str) -> None:
    if not text.isprintable() or len(text) > names.LONGEST_TEXT:
        raise DBusError(
            names.ERROR_INVALID_ARGS,
            f"{name!r} is for people to read: give one line, no longer than {names.LONGEST_TEXT}"
            " printable characters.",
        )


class Service:
    """kexecwatchd's objects on one connection."""

    def __init__(self, bus: MessageBus, backend: Backend) -> None:
        status = backend.status()
        self._bus = bus
        self._manager = Manager(bus, backend, status)
        self._images = {image.image: Image(image) for image in status.images}
        own = self._manager.introspect().methods
        self._methods = {(known.name, known.in_signature) for known in own}

    @property
    def connected(self) -> bool:
        return self._bus.connected

    async def start(self) -> None:
        """Export the objects, then take the name, so that nobody finds the name without them.

        Raises DBusError when the bus forbids the name, OSError when another process has it.
        """
        self._bus.add_message_handler(self._on_message)
        self._bus.export(names.MANAGER_PATH, self._manager)
        for name, image in self._images.items():
            self._bus.export(names.image_path(name), image)
        await self._manager.holds.start()
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

    def decided(self, decision: Decision) -> None:
        """Signal it."""
        self._manager.Decided(translate.dictionary(decision))

    def _on_message(self, message: Message) -> bool:
        """Note who calls; True, which drops the message, for a question that wants no answer."""
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        _call.set(message)
        # dbus-fast logs an error when it cannot serve one of these: anyone could fill the journal.
        return bool(message.flags & MessageFlag.NO_REPLY_EXPECTED) and not (
            message.path == names.MANAGER_PATH
            and message.interface == names.MANAGER_INTERFACE
            and (message.member, message.signature) in self._methods
        )
