# SPDX-License-Identifier: GPL-2.0-or-later
"""A polkit that is told what to say, on the private bus: it notes what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from tests.integration.harness import client

NAME = "org.freedesktop.PolicyKit1"
Answer = tuple[bool, bool, dict[str, str]]
"""Authorized; must authenticate; details."""

NO: Answer = (False, False, {})
YES: Answer = (True, False, {})
MUST_AUTHENTICATE: Answer = (False, True, {})
DISMISSED: Answer = (False, False, {"polkit.dismissed": "true"})


@dataclass(frozen=True)
class Asked:
    subject: tuple[str, dict[str, Variant]]
    action: str
    details: dict[str, str]
    flags: int
    cancellation: str


@dataclass
class FakePolkit:
    """`says`: its answer where no dialog is allowed. Where one is, that is `person`'s, once it is
    set, or MUST_AUTHENTICATE where there is no such person. `error`: answered instead."""

    says: Answer = MUST_AUTHENTICATE
    person: asyncio.Future[Answer] | None = None
    error: str = ""
    asked: list[Asked] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    _dialogs: dict[str, tuple[Message, asyncio.Task[None]]] = field(default_factory=dict)

    def serve(self, bus: MessageBus) -> None:
        def on_message(message: Message) -> Message | bool:
            if message.message_type is not MessageType.METHOD_CALL:
                return False
            if message.member == "CancelCheckAuthorization":
                self._cancel(bus, message.body[0])
                return True
            assert message.member == "CheckAuthorization"
            assert message.signature == "(sa{sv})sa{ss}us"
            subject, action, details, flags, cancellation = message.body
            self.asked.append(Asked(tuple(subject), action, details, flags, cancellation))
            if self.error:
                return Message.new_error(message, self.error, "it is broken")
            if not flags & 1:
                return _reply(message, self.says)
            if self.person is None:
                return _reply(message, MUST_AUTHENTICATE)
            dialog = asyncio.ensure_future(self._wait(bus, message, self.person))
            self._dialogs[cancellation] = (message, dialog)
            return True

        bus.add_message_handler(on_message)

    async def _wait(
        self, bus: MessageBus, message: Message, person: asyncio.Future[Answer]
    ) -> None:
        bus.send(_reply(message, await asyncio.shield(person)))

    def _cancel(self, bus: MessageBus, cancellation: str) -> None:
        self.cancelled.append(cancellation)
        message, dialog = self._dialogs.pop(cancellation)
        dialog.cancel()
        bus.send(Message.new_error(message, f"{NAME}.Error.Cancelled", "it was cancelled"))


def _reply(message: Message, answer: Answer) -> Message:
    return Message.new_method_return(message, "(bba{ss})", [list(answer)])


@contextlib.asynccontextmanager
async def polkit() -> AsyncGenerator[FakePolkit, None]:
    fake = FakePolkit()
    async with client() as bus:
        fake.serve(bus)
        await bus.request_name(NAME)
        yield fake
