# SPDX-License-Identifier: GPL-2.0-or-later
"""The other connections of the bus, as the bus itself knows them (org.freedesktop.DBus)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbus_fast import Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus

_BUS = "org.freedesktop.DBus"


class Peers:
    """All questions raise OSError or EOFError when the bus does not answer them.

    A connection is meant by its unique name (":1.42"), which no other ever gets on the same bus.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._watched: dict[str, list[Callable[[], None]]] = {}
        bus.add_message_handler(self._on_message)

    @property
    def connected(self) -> bool:
        """Whether we still are on the bus ourselves."""
        return self._bus.connected

    async def guid(self) -> str:
        """What tells this bus from any other, and from the same one started again."""
        return str(await self._ask("GetId"))

    async def uid(self, name: str) -> int | None:
        """Whose connection it is; None when it has ended."""
        reply = await self._bus.call(_question("GetConnectionUnixUser", name))
        return int(reply.body[0]) if reply.message_type is MessageType.METHOD_RETURN else None

    async def watch(self, name: str, gone: Callable[[], None]) -> None:
        """Call `gone` once when this connection has ended, which may be before this returns."""
        self._watched.setdefault(name, []).append(gone)
        try:
            # In this order: nothing can happen unseen between the two.
            await self._ask("AddMatch", _rule(name))
            if not await self._ask("NameHasOwner", name):
                self._ended(name)
        except BaseException:
            self.unwatch(name, gone)
            raise

    def unwatch(self, name: str, gone: Callable[[], None]) -> None:
        """Call `gone` no more."""
        watchers = self._watched.get(name, [])
        if gone in watchers:
            watchers.remove(gone)
            self._drop_rule(name)
        if not watchers:
            self._watched.pop(name, None)

    def _on_message(self, message: Message) -> None:
        # Anyone may send a signal of this name; the bus vouches for the sender.
        if (
            message.message_type is MessageType.SIGNAL
            and message.sender == _BUS
            and message.member == "NameOwnerChanged"
            and not message.body[2]
        ):
            self._ended(message.body[0])

    def _ended(self, name: str) -> None:
        for gone in self._watched.pop(name, []):
            self._drop_rule(name)
            gone()

    def _drop_rule(self, name: str) -> None:
        """One of those that watch() added; the bus counts them."""
        if self._bus.connected:
            self._bus.send(
                _question("RemoveMatch", _rule(name), flags=MessageFlag.NO_REPLY_EXPECTED)
            )

    async def _ask(self, member: str, *arguments: str) -> Any:
        reply = await self._bus.call(_question(member, *arguments))
        if reply.message_type is not MessageType.METHOD_RETURN:
            raise OSError(f"the bus answered {member} {arguments} with {reply.error_name}")
        return reply.body[0] if reply.body else None


def _question(member: str, *arguments: str, flags: MessageFlag = MessageFlag.NONE) -> Message:
    return Message(
        destination=_BUS,
        path="/org/freedesktop/DBus",
        interface=_BUS,
        member=member,
        signature="s" * len(arguments),
        body=list(arguments),
        flags=flags,
    )


def _rule(name: str) -> str:
    """The end of this connection, and nothing else."""
    return f"type='signal',sender='{_BUS}',member='NameOwnerChanged',arg0='{name}',arg2=''"
