# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as kexecwatchctl sees it, on the system bus."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from dbus_fast import BusType, Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus
from pydantic import BaseModel, ValidationError

from kexecwatchd.bus import names
from kexecwatchd.ctl.text import plain
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import SCHEMA_VERSION, Details, History, Status

# Seconds. A look can wait for a load in flight, which takes seconds, on a slow machine many.
_ANSWER_TIMEOUT = 10
_VERIFY_TIMEOUT = 60

_THE_BUS = "org.freedesktop.DBus"

_NOBODY_THERE = frozenset(
    {
        "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.ServiceUnknown",
    }
)
_RIGHTS = frozenset({names.ERROR_ACCESS_DENIED, names.ERROR_INTERACTIVE})
_EXPECTED = frozenset(
    {
        names.ERROR_HELD,
        names.ERROR_INVALID_ARGS,
        names.ERROR_LIMITS_EXCEEDED,
        names.ERROR_LOAD_FAILED,
        names.ERROR_NO_SUCH_HOLD,
        names.ERROR_REFUSED,
    }
)
_HOW_TO_START = """
  start it:              systemctl start kexecwatchd
  see why it is not up:  journalctl -b -u kexecwatchd"""
_HOW_TO_LOOK = """
  see what it is doing:  journalctl -b -u kexecwatchd
  start it afresh:       systemctl restart kexecwatchd   (loaded images stay)"""


class UnreachableError(Exception):
    """No answer; the text says who did not answer and what to do about it."""


class AnswerError(Exception):
    """An answer that is an error, or that cannot be read."""


class RefusedError(AnswerError):
    """The daemon said no; the text is its sentence, and what would help."""


_Model = TypeVar("_Model", bound=BaseModel)


class Client:
    """Raises UnreachableError and AnswerError."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    async def status(self) -> Status:
        """What the daemon last saw."""
        return read(Status, await self._call("GetStatus", _ANSWER_TIMEOUT))

    async def details(self) -> Details:
        """The addresses behind it. For root alone."""
        return read(Details, await self._call("GetDetails", _ANSWER_TIMEOUT))

    async def verify(self) -> None:
        """Have the daemon look afresh, and wait until it has."""
        await self._call("Verify", _VERIFY_TIMEOUT)

    async def history(self) -> History:
        """What was decided in this boot."""
        return read(History, await self._call("GetHistory", _ANSWER_TIMEOUT))

    async def watch(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever the daemon signals something, comes or goes."""

        def on_message(message: Message) -> None:
            if message.message_type is MessageType.SIGNAL:
                wake()

        self._bus.add_message_handler(on_message)
        for rule in (
            f"type='signal',sender='{names.BUS_NAME}'",
            f"type='signal',sender='{_THE_BUS}',member='NameOwnerChanged',arg0='{names.BUS_NAME}'",
        ):
            await self._bus.call(
                Message(
                    destination=_THE_BUS,
                    path="/org/freedesktop/DBus",
                    interface=_THE_BUS,
                    member="AddMatch",
                    signature="s",
                    body=[rule],
                )
            )

    # What changes something. Each may wait for a password, or for a load: there is no limit.

    async def reload(self, image: ImageName) -> State:
        """Load the image again; its state after it."""
        return State(await self._change("Reload", "s", image.value))

    async def discard(self, image: ImageName) -> State:
        """Unload the image; its state after it."""
        return State(await self._change("Discard", "s", image.value))

    async def set_mode(self, image: ImageName, mode: Mode | None) -> State:
        """Give the image another mode until the next boot, None: the configured one again."""
        return State(await self._change("SetMode", "ss", image.value, mode.value if mode else ""))

    async def hold(self, who: str, why: str) -> int:
        """Keep the daemon from loading while this connection lasts; the hold's number."""
        number: int = await self._change("Hold", "ss", who, why)
        return number

    async def release(self, number: int) -> None:
        """End a hold of this connection."""
        await self._change("Release", "t", number)

    async def lost(self) -> None:
        """Wait until the connection ends, and with it its holds."""
        with contextlib.suppress(EOFError, OSError):
            # Shielded: whoever stops waiting leaves the connection as it is.
            await asyncio.shield(self._bus.wait_for_disconnect())  # type: ignore[no-untyped-call]

    async def _change(self, member: str, signature: str, *body: Any) -> Any:
        # polkit's agent, which asks for the password, needs a terminal too.
        asks = MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION if sys.stdin.isatty() else 0
        return await self._call(member, None, signature, *body, flags=MessageFlag(asks))

    async def _call(
        self,
        member: str,
        timeout: float | None,  # noqa: ASYNC109
        signature: str = "",
        *body: Any,
        flags: MessageFlag = MessageFlag.NONE,
    ) -> Any:
        question = Message(
            destination=names.BUS_NAME,
            path=names.MANAGER_PATH,
            interface=names.MANAGER_INTERFACE,
            member=member,
            signature=signature,
            body=list(body),
            # Looking must not start what an administrator has stopped.
            flags=MessageFlag.NO_AUTOSTART | flags,
        )
        try:
            async with asyncio.timeout(timeout):
                reply = await self._bus.call(question)
        except TimeoutError as error:
            raise UnreachableError(
                f"kexecwatchd did not answer {member} within {timeout} s{_HOW_TO_LOOK}"
            ) from error
        except (EOFError, OSError) as error:
            raise UnreachableError(
                f"the system bus hung up while kexecwatchd was asked for {member}: {error!r}"
            ) from error
        if reply.message_type is MessageType.METHOD_RETURN:
            return reply.body[0] if reply.body else None
        if reply.error_name in _NOBODY_THERE:
            raise UnreachableError(
                f"kexecwatchd is not running: nobody has the name {names.BUS_NAME} on the system"
                f" bus{_HOW_TO_START}"
            )
        text = plain(str(reply.body[0])) if reply.body else "no text"
        if reply.error_name in _RIGHTS:
            raise RefusedError(f"{text}\n  as root:  sudo kexecwatchctl ...")
        if reply.error_name in _EXPECTED:
            raise RefusedError(text)
        said = f"{reply.error_name}: {text}"
        if reply.error_name == "org.freedesktop.DBus.Error.NoReply":
            raise UnreachableError(
                f"kexecwatchd went away before it answered {member}: {said}{_HOW_TO_START}"
            )
        raise AnswerError(f"kexecwatchd refused {member}: {said}")


@contextlib.asynccontextmanager
async def connected() -> AsyncGenerator[Client, None]:
    """A client on the system bus (DBUS_SYSTEM_BUS_ADDRESS where set)."""
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT):
            bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    except Exception as error:
        raise UnreachableError(
            f"no connection to the system bus: {error!r}\n"
            "  is it running?         systemctl status dbus.socket"
        ) from error
    try:
        yield Client(bus)
    finally:
        if bus.connected:
            bus.disconnect()
            with contextlib.suppress(EOFError, OSError):
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


def read(model: type[_Model], text: str) -> _Model:
    """The daemon's JSON as a model; raises AnswerError when it is not that.

    A newer daemon may have fields that this program does not know: they are left out. A schema
    version of its own means that known fields have a new meaning, so that is an error.
    """
    try:
        data = json.loads(text)
        version = data["schema_version"]
        if version != SCHEMA_VERSION:
            raise AnswerError(
                f"the daemon reports by schema {version}, and this kexecwatchctl knows"
                f" {SCHEMA_VERSION}: install the same version of both, then restart kexecwatchd"
            )
        _drop_unknown(model, data)
        return model.model_validate(data)
    except (ValueError, TypeError, KeyError) as error:
        raise AnswerError(f"the daemon's {model.__name__} cannot be read: {error!r}") from error


def _drop_unknown(model: type[BaseModel], data: Any) -> None:
    try:
        model.model_validate(data)
    except ValidationError as refusal:
        for error in refusal.errors():
            if error["type"] == "extra_forbidden":
                *way, field = error["loc"]
                holder = data
                for step in way:
                    holder = holder[step]
                del holder[field]
