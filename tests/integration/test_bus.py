# SPDX-License-Identifier: GPL-2.0-or-later
"""The service on a real bus: what it shows, what it signals, whom it refuses, what it survives."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from typing import Any
from xml.etree import ElementTree

import pytest
from dbus_fast import Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from kexecwatchd.bus import Bus, names, translate
from kexecwatchd.model import ImageName, State
from kexecwatchd.report import Details, ImageStatus, Status
from kexecwatchd.requests import Refused
from tests.integration.harness import (
    MISSING,
    NOBODY,
    SEGMENT,
    STALE,
    FakeBackend,
    PrivateBus,
    call,
    checked,
    client,
    get_all,
    is_served,
    read_all,
    running,
    serving,
    status,
    until,
)

CRASH_PATH = names.image_path(ImageName.CRASH)
ADDRESSES = [MISSING.start, MISSING.end, SEGMENT.start, SEGMENT.end]

pytestmark = pytest.mark.usefixtures("system_bus")


async def introspected(bus: MessageBus, path: str, interface: str) -> dict[str, str]:
    """Property name -> signature, as Introspect has it; all read-only."""
    reply = await call(
        bus, "Introspect", path=path, interface="org.freedesktop.DBus.Introspectable"
    )
    found = ElementTree.fromstring(reply.body[0]).find(f"interface[@name='{interface}']")
    assert found is not None
    properties = found.findall("property")
    assert {p.get("access") for p in properties} == {"read"}
    return {p.get("name", ""): p.get("type", "") for p in properties}


async def test_image_properties_are_the_fields_of_the_model(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        for image in backend.now.images:
            path = names.image_path(image.image)
            shown = await introspected(bus, path, names.IMAGE_INTERFACE)
            assert list(map(translate.property_name, ImageStatus.model_fields)) == sorted(
                shown, key=[*map(translate.property_name, ImageStatus.model_fields)].index
            )
            values = await get_all(bus, path, names.IMAGE_INTERFACE)
            assert {name: value.signature for name, value in values.items()} == shown
            assert as_model(unpack_variants(values)) == image.model_dump(mode="json")


def as_model(values: dict[str, Any]) -> dict[str, Any]:
    """D-Bus values back to the model's JSON, written out by hand and not by the rule."""
    load, drift = values["LastLoad"], values["Drift"]
    return {
        "image": values["Image"],
        "mode": values["Mode"],
        "configured_mode": values["ConfiguredMode"],
        "state": values["State"],
        "reason": values["Reason"],
        "covered": values["Covered"],
        "loaded": values["Loaded"],
        "foreign": values["Foreign"],
        "degraded": values["Degraded"],
        "proof": values["Proof"],
        "since": values["Since"] / 1e6,
        "drift": drift,
        "in_progress": values["InProgress"],
        "in_progress_since": values["InProgressSince"] / 1e6,
        "load_count": values["LoadCount"],
        "last_load": {**load, "at": load["at"] / 1e6},
        "last_error": values["LastError"],
        "last_action": values["LastAction"],
        "last_action_at": values["LastActionAt"] / 1e6,
        "next_step": values["NextStep"],
        "next_try": values["NextTry"] / 1e6,
        "start_obstacle": values["StartObstacle"],
    }


async def test_manager_properties_are_the_fields_of_the_model(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        values = unpack_variants(await get_all(bus, names.MANAGER_PATH, names.MANAGER_INTERFACE))
    fields = set(map(translate.property_name, Status.model_fields)) - {"Images", "Checks", "Holds"}
    assert set(values) == fields | {"Covered", "CheckProblems", "CheckWarnings"}
    assert values["CheckProblems"] == ["problem: it is so"]
    assert values["CheckWarnings"] == ["warning: it is so"]
    assert values["KernelRelease"] == backend.now.kernel_release
    assert values["LookedAt"] == backend.now.looked_at * 1e6
    assert values["Covered"] is True


async def test_object_manager_lists_both_images(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        reply = await call(bus, "GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager")
    objects = reply.body[0]
    assert set(objects) == {names.image_path(name) for name in ImageName}
    assert all(names.IMAGE_INTERFACE in interfaces for interfaces in objects.values())


async def test_json_is_the_model(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        told = await call(bus, "GetStatus")
        addresses = await call(bus, "GetDetails")
    assert Status.model_validate_json(told.body[0]) == backend.now
    assert Details.model_validate_json(addresses.body[0]) == backend.details()


async def test_signals_say_exactly_what_changed(backend: FakeBackend) -> None:
    seen: list[tuple[str, str, Any]] = []

    def note(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.sender != "org.freedesktop.DBus":
            seen.append((message.path or "", message.member or "", unpack_variants(message.body)))

    async with serving(backend) as service, client() as bus:
        await bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[f"type='signal',sender='{names.BUS_NAME}'"],
            )
        )
        bus.add_message_handler(note)
        service.publish(backend.now)  # nothing changed
        service.publish(STALE)
        service.publish(STALE)
        later = STALE.model_copy(update={"looked_at": 1_700_000_005})
        service.publish(later)
        found = [checked("problem", "it is worse"), checked("warning")]
        service.publish(later.model_copy(update={"checks": found}))
        # Replies and signals of one sender keep their order.
        shown = await get_all(bus, CRASH_PATH, names.IMAGE_INTERFACE)
        told = await call(bus, "GetStatus")
    assert seen == [
        (
            CRASH_PATH,
            "PropertiesChanged",
            [
                names.IMAGE_INTERFACE,
                {"State": "stale", "Covered": False, "Reason": "1 GiB is missing"},
                [],
            ],
        ),
        (
            names.MANAGER_PATH,
            "PropertiesChanged",
            [names.MANAGER_INTERFACE, {"Covered": False}, []],
        ),
        (names.MANAGER_PATH, "Changed", ["crash", "stale"]),
        (
            names.MANAGER_PATH,
            "PropertiesChanged",
            [names.MANAGER_INTERFACE, {"LookedAt": 1_700_000_005_000_000}, []],
        ),
        (
            names.MANAGER_PATH,
            "PropertiesChanged",
            [names.MANAGER_INTERFACE, {"CheckProblems": ["problem: it is worse"]}, []],
        ),
    ]
    assert shown["State"].value == "stale"
    assert json.loads(told.body[0])["looked_at"] == 1_700_000_005


async def test_a_slow_reload_holds_up_nobody(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        reload = asyncio.ensure_future(call(bus, "Reload", "s", "reboot"))
        shown = await get_all(bus, CRASH_PATH, names.IMAGE_INTERFACE)
        assert shown["State"].value == "current"
        assert (await call(bus, "Verify")).body == [True]
        assert not reload.done()
        backend.may_reload.set()
        assert (await reload).body == ["current"]
    assert backend.reloads == [ImageName.REBOOT]


async def test_refusal_keeps_its_sentence(backend: FakeBackend) -> None:
    backend.trouble = Refused("The mode is observe: set crash.mode to ensure.")
    async with serving(backend), client() as bus:
        reply = await call(bus, "Reload", "s", "crash")
    assert reply.error_name == names.ERROR_REFUSED
    assert reply.body == ["The mode is observe: set crash.mode to ensure."]


async def test_unknown_image_is_named_and_told_what_would_be_right(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        reply = await call(bus, "Reload", "s", "rescue")
    assert reply.error_name == names.ERROR_INVALID_ARGS
    assert "'rescue'" in reply.body[0]
    assert "'crash' or 'reboot'" in reply.body[0]
    assert backend.reloads == []


async def test_an_error_of_our_own_stays_in_the_journal(
    backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.trouble = RuntimeError(f"broken at {MISSING.start}")
    async with serving(backend), client() as bus:
        for arguments in (("Verify",), ("Reload", "s", "crash")):
            reply = await call(bus, *arguments)
            assert reply.error_name == names.ERROR_FAILED
            assert "journalctl" in reply.body[0]
            assert MISSING.start not in str(reply.body)
    assert MISSING.start in caplog.text


async def test_questions_without_answer_fill_no_journal(
    backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.may_reload.set()
    async with serving(backend), client() as bus:
        for member, interface in (
            ("Get", "org.freedesktop.DBus.Properties"),
            ("Reload", names.MANAGER_INTERFACE),
        ):
            await bus.send(
                Message(
                    destination=names.BUS_NAME,
                    path=names.MANAGER_PATH,
                    interface=interface,
                    member=member,
                    signature="s",
                    body=["crash"],
                    flags=MessageFlag.NO_REPLY_EXPECTED,
                )
            )
        assert (await call(bus, "Verify")).body == [True]

        async def reloaded() -> bool:
            return bool(backend.reloads)

        await until(reloaded)  # dbus-send asks so unless told otherwise
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def refused(answers: dict[str, Any], member: str) -> None:
    found = {question: said for question, said in answers.items() if question.startswith(member)}
    assert found
    for question, (error, body) in found.items():
        assert error == names.ERROR_ACCESS_DENIED, question
        assert body[0].startswith("Rejected send message"), (
            "the bus refuses, before the daemon does"
        )


async def test_users_read_everything_but_addresses(backend: FakeBackend) -> None:
    backend.may_reload.set()
    async with serving(backend):
        theirs = await read_all(NOBODY)
        before = list(backend.reloads)
        roots = await read_all(0)
    refused(theirs, "GetDetails")
    refused(theirs, "Reload")
    assert before == []
    assert not [address for address in ADDRESSES if address in json.dumps(theirs)]
    # The same questions do get answers, and as root the addresses too.
    failed = {question for question, (error, _) in theirs.items() if error}
    assert failed == {
        # A policy cannot tell what is meant by a call without interface, and refuses it.
        *(f"{member} None" for member in ("Verify", "GetStatus", "GetDetails")),
        "Reload crash None",
        f"GetDetails {names.MANAGER_INTERFACE}",
        f"Reload crash {names.MANAGER_INTERFACE}",
    }
    assert not [question for question, (error, _) in roots.items() if error]
    assert not [address for address in ADDRESSES if address not in json.dumps(roots)]


# dbus-fast before 5.0 leaves a socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_bus_comes_late_and_comes_again(
    absent_bus: PrivateBus, backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    absent_bus.stop()
    service = Bus(backend, first_pause=0.01, longest_pause=0.05)
    service.publish(STALE)  # with no bus at all
    async with running(service):
        for looked_at in (1, 2):
            backend.now = status(looked_at=looked_at)
            service.publish(backend.now)
            await asyncio.sleep(0.2)  # several attempts
            absent_bus.start()
            await until(is_served)
            async with client() as bus:
                shown = await get_all(bus, names.MANAGER_PATH, names.MANAGER_INTERFACE)
            assert shown["LookedAt"].value == looked_at * 1_000_000
            absent_bus.stop()
            service.publish(STALE)  # into a connection that may not know yet that it is dead
    said = [r.getMessage() for r in caplog.records if r.name.startswith("kexecwatchd")]
    assert len([line for line in said if "No such file" in line]) == 2, "once per absence"
    assert len([line for line in said if "lost the system bus" in line]) >= 1
    assert [r for r in caplog.records if r.name.startswith("kexecwatchd") and r.exc_info] == []
    gc.collect()  # while the filter above is in force


async def test_a_second_daemon_says_so_and_takes_over_when_the_first_ends(
    backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    second = FakeBackend(now=STALE)
    async with serving(backend):
        task = asyncio.ensure_future(Bus(second, first_pause=0.01, longest_pause=0.05).run())

        async def complained() -> bool:
            return "second kexecwatchd" in caplog.text

        await until(complained)
        async with client() as bus:
            assert (await call(bus, "Verify")).body == [True]

    async def taken_over() -> bool:
        async with client() as bus:
            return (await call(bus, "Verify")).body == [False]

    await until(taken_over)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_leaves_the_bus(backend: FakeBackend) -> None:
    async with serving(backend):
        assert await is_served()
    assert not await is_served()
    assert backend.now.images[0].state is State.CURRENT
