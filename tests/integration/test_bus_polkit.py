# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may change something: what polkit is asked, and what its answers come to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dbus_fast import Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from kexecwatchd.bus import names
from kexecwatchd.model import ImageName, Mode
from tests.integration import polkit as fake
from tests.integration.harness import (
    NOBODY,
    FakeBackend,
    call,
    client,
    get_all,
    serving,
    until,
)
from tests.integration.polkit import Answer, FakePolkit, polkit

pytestmark = pytest.mark.usefixtures("system_bus")

DIALOG = MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION
BY = f"uid {NOBODY}"

# Each method that changes something: how it is called, polkit's action and details, what the
# backend is then asked.
CHANGES: list[tuple[tuple[Any, ...], str, dict[str, str], tuple[Any, ...]]] = [
    (
        ("Reload", "s", "crash"),
        "org.kexecwatch1.reload",
        {"image": "crash"},
        ("reload", ImageName.CRASH, BY),
    ),
    (
        ("Discard", "s", "reboot"),
        "org.kexecwatch1.discard",
        {"image": "reboot"},
        ("discard", ImageName.REBOOT, BY),
    ),
    (
        ("SetMode", "ss", "crash", "observe"),
        "org.kexecwatch1.set-mode",
        {"image": "crash", "mode": "observe"},
        ("set_mode", ImageName.CRASH, Mode.OBSERVE, BY),
    ),
    (
        ("SetMode", "ss", "reboot", ""),
        "org.kexecwatch1.set-mode",
        {"image": "reboot", "mode": "configured"},
        ("set_mode", ImageName.REBOOT, None, BY),
    ),
    (("Hold", "ss", "apt", "work"), "org.kexecwatch1.hold", {}, ("hold", "apt", "work", BY)),
]


@pytest.fixture
async def backend(backend: FakeBackend) -> FakeBackend:
    backend.may_reload.set()
    return backend


def failed(reply: Message, name: str) -> str:
    """The sentence of an error of this name."""
    assert reply.error_name == name, reply.body
    return str(reply.body[0])


@pytest.mark.parametrize(("question", "action", "details", "done"), CHANGES)
async def test_polkit_is_asked_about_the_connection(
    backend: FakeBackend,
    question: tuple[Any, ...],
    action: str,
    details: dict[str, str],
    done: tuple[Any, ...],
) -> None:
    async with serving(backend), polkit() as asked, client(NOBODY) as bus:
        refused = await call(bus, *question)
        assert backend.asked == []
        asked.says = fake.YES
        allowed = await call(bus, *question)
        name = bus.unique_name
    assert failed(refused, names.ERROR_INTERACTIVE)
    assert allowed.message_type is MessageType.METHOD_RETURN, allowed.body
    assert backend.asked == [done]
    for one in asked.asked:
        assert one.subject == ("system-bus-name", {"name": Variant("s", name)})
        assert (one.action, one.details, one.flags) == (action, details, 0)


@pytest.mark.parametrize("question", [question for question, *_ in CHANGES])
async def test_root_needs_no_polkit(backend: FakeBackend, question: tuple[Any, ...]) -> None:
    async with serving(backend), client() as bus:
        reply = await call(bus, *question)
    assert reply.message_type is MessageType.METHOD_RETURN, reply.body
    assert [asked[-1] for asked in backend.asked] == ["uid 0"]


async def test_no_dialog_unless_the_caller_allows_one(backend: FakeBackend) -> None:
    async with serving(backend), polkit() as asked, client(NOBODY) as bus:
        asked.person = asyncio.get_running_loop().create_future()
        asked.person.set_result(fake.YES)
        alone = await call(bus, "Reload", "s", "crash")
        together = await call(bus, "Reload", "s", "crash", flags=DIALOG)
    assert "call this as root" in failed(alone, names.ERROR_INTERACTIVE)
    assert together.body == ["current"]
    assert [one.flags for one in asked.asked] == [0, 1]


@pytest.mark.parametrize(
    ("answer", "flags", "name", "help_"),
    [
        (fake.NO, MessageFlag.NONE, names.ERROR_ACCESS_DENIED, "/etc/polkit-1/rules.d"),
        (fake.NO, DIALOG, names.ERROR_ACCESS_DENIED, "/etc/polkit-1/rules.d"),
        (fake.DISMISSED, DIALOG, names.ERROR_ACCESS_DENIED, "was dismissed: call this again"),
        (fake.MUST_AUTHENTICATE, DIALOG, names.ERROR_INTERACTIVE, "pkttyagent"),
        (fake.MUST_AUTHENTICATE, MessageFlag.NONE, names.ERROR_INTERACTIVE, "interactive"),
    ],
)
async def test_each_refusal_says_what_would_help(
    backend: FakeBackend,
    answer: Answer,
    flags: MessageFlag,
    name: str,
    help_: str,
) -> None:
    async with serving(backend), polkit() as asked, client(NOBODY) as bus:
        asked.says = answer
        asked.person = asyncio.get_running_loop().create_future()
        asked.person.set_result(answer)
        reply = await call(bus, "Discard", "s", "crash", flags=flags)
    said = failed(reply, name)
    assert "unload an image" in said
    assert help_ in said
    assert backend.asked == []


@pytest.mark.parametrize("flags", [MessageFlag.NONE, DIALOG])
async def test_without_polkit_only_root_may(backend: FakeBackend, flags: MessageFlag) -> None:
    async with serving(backend), client(NOBODY) as bus:
        reply = await call(bus, "Reload", "s", "crash", flags=flags)
    said = failed(reply, names.ERROR_ACCESS_DENIED)
    assert said.startswith("Only root may load an image again")
    assert "systemctl status polkit" in said
    assert backend.asked == []


async def test_a_broken_polkit_allows_nothing(backend: FakeBackend) -> None:
    async with serving(backend), polkit() as asked, client(NOBODY) as bus:
        asked.error = "org.freedesktop.PolicyKit1.Error.Failed"
        reply = await call(bus, "Reload", "s", "crash")
    assert asked.error in failed(reply, names.ERROR_ACCESS_DENIED)
    assert backend.asked == []


async def test_arguments_are_checked_before_anyone_is_asked(backend: FakeBackend) -> None:
    wrong: list[tuple[tuple[Any, ...], str]] = [
        (("Reload", "s", "rescue"), "'crash' or 'reboot'"),
        (("Discard", "s", ""), "'crash' or 'reboot'"),
        (("SetMode", "ss", "both", "off"), "'crash' or 'reboot'"),
        (("SetMode", "ss", "crash", "on"), "'ensure', 'follow', 'observe', 'off', or 'configured'"),
        (("Hold", "ss", " ", "why"), "'who' must not be empty"),
        (("Hold", "ss", "who", "two\nlines"), "'why'"),
        (("Hold", "ss", "who\x1b[2J", "why"), "'who'"),
        (("Hold", "ss", "who", 201 * "y"), "200"),
    ]
    async with serving(backend), polkit() as asked, client(NOBODY) as bus:
        for question, right in wrong:
            reply = await call(bus, *question)
            assert right in failed(reply, names.ERROR_INVALID_ARGS)
    assert asked.asked == []
    assert backend.asked == []


async def dialog_opened(asked: FakePolkit) -> None:
    async def open_now() -> bool:
        return bool(asked.asked)

    await until(open_now)


async def test_nobody_waits_for_somebody_elses_dialog(backend: FakeBackend) -> None:
    async with serving(backend), polkit() as asked, client(NOBODY) as bus, client() as root:
        asked.person = asyncio.get_running_loop().create_future()
        slow = asyncio.ensure_future(call(bus, "Reload", "s", "crash", flags=DIALOG))
        await dialog_opened(asked)
        assert (await call(bus, "Verify")).body == [True]
        assert await get_all(bus, names.MANAGER_PATH, names.MANAGER_INTERFACE)
        assert (await call(root, "Reload", "s", "reboot")).body == ["current"]
        assert not slow.done()
        asked.person.set_result(fake.YES)
        assert (await slow).body == ["current"]


async def test_a_dialog_ends_with_its_caller(
    backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(backend), polkit() as asked:
        asked.person = asyncio.get_running_loop().create_future()
        async with client(NOBODY) as bus:
            question = asyncio.ensure_future(call(bus, "Reload", "s", "crash", flags=DIALOG))
            await dialog_opened(asked)
        await asyncio.gather(question, return_exceptions=True)

        async def cancelled() -> bool:
            return asked.cancelled == [asked.asked[0].cancellation]

        await until(cancelled)
        async with client() as root:
            assert (await call(root, "Verify")).body == [True]
    assert backend.asked == []
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


async def test_requests_without_answer_are_asked_about_too_and_fill_no_journal(
    backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(backend), polkit() as asked, client(NOBODY) as bus:
        for says in (fake.NO, fake.YES):
            asked.says = says
            await send(bus, "Reload")
            # Messages of one sender keep their order, but their answers need not.
            assert (await call(bus, "Verify")).body == [True]

            async def asked_now(count: int = 1 + (says is fake.YES)) -> bool:
                return len(asked.asked) == count

            await until(asked_now)

        async def reloaded() -> bool:
            return backend.reloads == [ImageName.CRASH]

        await until(reloaded)
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


async def send(bus: MessageBus, member: str) -> None:
    await bus.send(
        Message(
            destination=names.BUS_NAME,
            path=names.MANAGER_PATH,
            interface=names.MANAGER_INTERFACE,
            member=member,
            signature="s",
            body=["crash"],
            flags=MessageFlag.NO_REPLY_EXPECTED,
        )
    )
