# SPDX-License-Identifier: GPL-2.0-or-later
"""PropertiesChanged exactly when something changed: whoever only listens knows what is so."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin

import pytest
from dbus_fast import Message
from dbus_fast.aio import MessageBus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from kexecwatchd.bus import Bus, names
from kexecwatchd.model import ImageName
from kexecwatchd.report import CheckResult, ImageStatus, Status
from tests.integration.harness import (
    FakeBackend,
    PrivateBus,
    call,
    client,
    get_all,
    listen,
    serving,
)

OBJECTS = {names.MANAGER_PATH: names.MANAGER_INTERFACE} | {
    names.image_path(image): names.IMAGE_INTERFACE for image in ImageName
}


def few(annotation: Any) -> st.SearchStrategy[Any]:
    """Few values of a type, so that the same ones come again; every field of a model varies."""
    if get_origin(annotation) is list:
        return st.lists(few(get_args(annotation)[0]), max_size=2)
    if get_origin(annotation) is UnionType:
        return st.one_of(*map(few, get_args(annotation)))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return st.builds(annotation, **{n: few(f.annotation) for n, f in fields(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return st.sampled_from(annotation)
    known: dict[Any, list[Any]] = {
        bool: [False, True],
        int: [0, 1],
        float: [0, 0.5],
        str: ["", "a"],
        type(None): [None],
        dict[str, Any]: [{}],
    }
    return st.sampled_from(known[annotation])


def fields(model: type[BaseModel]) -> list[tuple[str, Any]]:
    return [*model.model_fields.items()]


CHECKS = st.lists(
    st.builds(
        CheckResult,
        name=st.just("panic"),
        question=st.just(""),
        answer=st.sampled_from(["ok", "warning", "problem"]),
        summary=few(str),
    ),
    max_size=2,
)


@st.composite
def statuses(draw: st.DrawFn) -> Status:
    images = [draw(few(ImageStatus)).model_copy(update={"image": name}) for name in ImageName]
    made = {name: few(info.annotation) for name, info in fields(Status)}
    made |= {"images": st.just(images), "checks": CHECKS}
    return draw(st.builds(Status, **made))


def one_thing_else(status: Status) -> st.SearchStrategy[Status]:
    """The same but for one field of one image, or of the manager."""
    image = st.sampled_from(range(len(status.images)))
    name = st.sampled_from([n for n in ImageStatus.model_fields if n != "image"])

    def changed(where: int, which: str, value: Any) -> Status:
        images = list(status.images)
        images[where] = images[where].model_copy(update={which: value})
        return status.model_copy(update={"images": images})

    in_image = name.flatmap(
        lambda which: st.builds(
            changed, image, st.just(which), few(ImageStatus.model_fields[which].annotation)
        )
    )
    own = [n for n in Status.model_fields if n not in ("images", "checks")]
    in_manager = st.sampled_from(own).flatmap(
        lambda which: few(Status.model_fields[which].annotation).map(
            lambda value: status.model_copy(update={which: value})
        )
    )
    return st.one_of(st.just(status), in_image, in_manager)


@st.composite
def sequences(draw: st.DrawFn) -> list[Status]:
    """Some of them repeat the one before, some differ in one thing, some in all."""
    found = [draw(statuses())]
    for _ in range(draw(st.integers(1, 6))):
        found.append(draw(st.one_of(one_thing_else(found[-1]), statuses())))
    return found


@dataclass
class Listener:
    """Knows all properties from GetAll once, and from signals since."""

    loop: asyncio.Runner
    service: Bus
    bus: MessageBus
    known: dict[str, dict[str, Any]]
    signals: int = 0
    wrong: list[Any] = field(default_factory=list)

    def note(self, message: Message) -> None:
        if message.member != "PropertiesChanged":
            return
        interface, changed, invalidated = message.body
        path = str(message.path)
        if (interface, invalidated) != (OBJECTS[path], []) or not changed:
            self.wrong.append(message.body)
        # An assert would only be logged here: dbus-fast sees to that.
        self.wrong += [name for name in changed if changed[name] == self.known[path][name]]
        self.known[path] |= changed
        self.signals += 1


@pytest.fixture
def listener(system_bus: PrivateBus) -> Generator[Listener, None, None]:
    async def begin() -> Listener:
        service = await stack.enter_async_context(serving(FakeBackend()))
        bus = await stack.enter_async_context(client())
        await listen(bus)
        known = {path: await get_all(bus, path, OBJECTS[path]) for path in OBJECTS}
        listener = Listener(runner, service, bus, known)
        bus.add_message_handler(listener.note)
        return listener

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner.run(begin())
        runner.run(stack.aclose())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequences())
def test_a_listener_always_knows_what_is_so(listener: Listener, told: list[Status]) -> None:
    """From one example to the next, too: the service goes on."""

    async def publish(status: Status) -> None:
        listener.service.publish(status)
        for path, interface in OBJECTS.items():
            assert listener.known[path] == await get_all(listener.bus, path, interface)
        assert listener.wrong == [], "told, but not changed"

    for status in told:
        listener.loop.run(publish(status))


def test_nothing_is_told_twice(listener: Listener) -> None:
    status = FakeBackend().now.model_copy(update={"looked_at": 1.0})

    async def publish() -> None:
        for _ in range(3):
            listener.service.publish(status)
        await call(listener.bus, "Verify")

    listener.loop.run(publish())
    assert listener.signals == 1
