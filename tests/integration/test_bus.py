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
from kexecwatchd.report import Details, History, ImageStatus, Status
from kexecwatchd.requests import Held, LoadFailed, Refused, TooManyHolds
from tests.integration.harness import (
    DECISION,
    HOLD,
    MISSING,
    NOBODY,
    POLICY,
    SEGMENT,
    STALE,
    FakeBackend,
    PrivateBus,
    call,
    checked,
    client,
    get_all,
    is_served,
    listen,
    read_all,
    running,
    serving,
    status,
    until,
)

CRASH_PATH = names.image_path(ImageName.CRASH)
ADDRESSES = [MISSING.start, MISSING.end, SEGMENT.start, SEGMENT.end]

pytestmark = pytest.mark.usefixtures("system_bus")


async def introspect(bus: MessageBus, path: str) -> ElementTree.Element:
    reply = await call(
        bus, "Introspect", path=path, interface="org.freedesktop.DBus.Introspectable"
    )
    return ElementTree.fromstring(reply.body[0])


async def introspected(bus: MessageBus, path: str, interface: str) -> dict[str, str]:
    """Property name -> signature, as Introspect has it; all read-only."""
    found = (await introspect(bus, path)).find(f"interface[@name='{interface}']")
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
        "guarded": values["Guarded"],
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
    fields = set(map(translate.property_name, Status.model_fields)) - {"Images", "Checks"}
    assert set(values) == fields | {"Covered", "CheckProblems", "CheckWarnings"}
    assert values["CheckProblems"] == ["problem: it is so"]
    assert values["CheckWarnings"] == ["warning: it is so"]
    assert values["KernelRelease"] == backend.now.kernel_release
    assert values["LookedAt"] == backend.now.looked_at * 1e6
    assert values["Covered"] is True
    assert values["Holds"] == [
        {"number": 7, "who": HOLD.who, "why": HOLD.why, "since": HOLD.since * 1e6}
    ]


@pytest.mark.parametrize(
    ("path", "more"), [("/", {names.MANAGER_PATH}), (names.MANAGER_PATH, set())]
)
async def test_object_manager_lists_all_below_it(
    backend: FakeBackend, path: str, more: set[str]
) -> None:
    """Each with the properties that it has itself."""
    manager = "org.freedesktop.DBus.ObjectManager"
    async with serving(backend), client() as bus:
        reply = await call(bus, "GetManagedObjects", path=path, interface=manager)
        objects = reply.body[0]
        assert set(objects) == {names.image_path(name) for name in ImageName} | more
        for found, interfaces in objects.items():
            for interface, properties in interfaces.items():
                assert properties == await get_all(bus, found, interface)


async def test_introspection_leads_from_the_root_to_every_object(backend: FakeBackend) -> None:
    async def below(bus: MessageBus, path: str) -> dict[str, ElementTree.Element]:
        node = await introspect(bus, path)
        found = {path: node} if node.find("interface") is not None else {}
        for child in node.findall("node"):
            found |= await below(bus, f"{path.rstrip('/')}/{child.get('name')}")
        return found

    async with serving(backend), client() as bus:
        objects = await below(bus, "/")
    assert set(objects) == {names.MANAGER_PATH, *map(names.image_path, ImageName)}


def members(node: ElementTree.Element, interface: str) -> set[tuple[str | None, ...]]:
    """What an introspection says of an interface, but for the words."""
    root = node.find(f"interface[@name='{interface}']")
    assert root is not None
    return {
        (kind, member.get("name"), member.get("access"), member.get("type"), takes, gives)
        for kind in ("method", "signal", "property")
        for member in root.findall(kind)
        for arguments in [member.findall("arg")]
        for takes in ["".join(a.get("type", "") for a in arguments if a.get("direction") == "in")]
        for gives in ["".join(a.get("type", "") for a in arguments if a.get("direction") != "in")]
    }


async def test_the_shipped_introspection_is_the_services(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        for path, interface in (
            (names.MANAGER_PATH, names.MANAGER_INTERFACE),
            (CRASH_PATH, names.IMAGE_INTERFACE),
        ):
            served = await introspect(bus, path)
            shipped = ElementTree.parse(POLICY.parent / f"{interface}.xml").getroot()
            assert members(shipped, interface) == members(served, interface)


async def test_json_is_the_model(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        told = await call(bus, "GetStatus")
        decided = await call(bus, "GetHistory")
        addresses = await call(bus, "GetDetails")
    assert History.model_validate_json(decided.body[0]) == backend.history()
    assert Status.model_validate_json(told.body[0]) == backend.now
    assert Details.model_validate_json(addresses.body[0]) == backend.details()


async def test_signals_say_exactly_what_changed(backend: FakeBackend) -> None:
    seen: list[tuple[str, str, Any]] = []

    def note(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.sender != "org.freedesktop.DBus":
            seen.append((message.path or "", message.member or "", unpack_variants(message.body)))

    async with serving(backend) as service, client() as bus:
        await listen(bus)
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


async def test_a_slow_load_blocks_no_read(backend: FakeBackend) -> None:
    """Not one of any object's."""
    async with serving(backend), client() as bus:
        reload = asyncio.ensure_future(call(bus, "Reload", "s", "reboot"))
        answers = await read_all(NOBODY)
        assert {tuple(question.split()[1:3]) for question in answers} >= {
            (names.MANAGER_INTERFACE, "Verify"),
            (names.MANAGER_INTERFACE, "GetStatus"),
            (names.MANAGER_INTERFACE, "GetHistory"),
            ("org.freedesktop.DBus.Properties", "Get"),
            ("org.freedesktop.DBus.Properties", "GetAll"),
        }
        assert (await call(bus, "GetDetails")).body
        assert not reload.done()
        backend.may_reload.set()
        assert (await reload).body == ["current"]
    assert backend.reloads == [ImageName.REBOOT]


async def test_decisions_are_signalled(backend: FakeBackend) -> None:
    seen: list[dict[str, Any]] = []

    def note(message: Message) -> None:
        if message.member == "Decided":
            assert message.signature == "a{sv}"
            assert (message.path, message.interface) == (
                names.MANAGER_PATH,
                names.MANAGER_INTERFACE,
            )
            seen.append(unpack_variants(message.body[0]))

    Bus(backend).decided(DECISION)  # with no bus at all
    async with serving(backend) as service, client() as bus:
        await listen(bus)
        bus.add_message_handler(note)
        service.decided(DECISION)
        service.decided(DECISION.model_copy(update={"image": None, "state": None}))
        await call(bus, "Verify")
    told, general = seen
    assert (general["image"], general["state"]) == ("", "")
    assert told == DECISION.model_dump(mode="json") | {"at": DECISION.at * 1e6}


async def test_each_refusal_has_its_name_and_keeps_its_sentence(backend: FakeBackend) -> None:
    async with serving(backend), client() as bus:
        for trouble, name in (
            (Refused("The mode is observe: set crash.mode to ensure."), names.ERROR_REFUSED),
            (Held("apt holds: a new kernel is installed."), names.ERROR_HELD),
            (LoadFailed("kexec_file_load: EBUSY."), names.ERROR_LOAD_FAILED),
            (TooManyHolds("There are 64 holds."), names.ERROR_LIMITS_EXCEEDED),
        ):
            backend.trouble = trouble
            for question in (
                ("Reload", "s", "crash"),
                ("Discard", "s", "crash"),
                ("SetMode", "ss", "crash", "off"),
                ("Hold", "ss", "apt", "work"),
            ):
                reply = await call(bus, *question)
                assert (reply.error_name, reply.body) == (name, [str(trouble)])


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
            ("GetDetails", names.MANAGER_INTERFACE),  # with another signature
            ("Unknown", names.MANAGER_INTERFACE),
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


async def test_users_read_everything_but_addresses(backend: FakeBackend) -> None:
    backend.may_reload.set()
    async with serving(backend):
        theirs = await read_all(NOBODY)
        done = [asked[0] for asked in backend.asked]
        roots = await read_all(0)
    assert done == ["release"], "which is for holders"
    assert not [address for address in ADDRESSES if address in json.dumps(theirs)]
    failed = {tuple(q.split()[1:3]): error for q, (error, _) in theirs.items() if error}
    ours = {member: error for (where, member), error in failed.items() if "kexec" in where}
    assert ours == {
        "GetDetails": names.ERROR_ACCESS_DENIED,
        "Reload": names.ERROR_ACCESS_DENIED,
        "Discard": names.ERROR_ACCESS_DENIED,
        "SetMode": names.ERROR_ACCESS_DENIED,
        "Hold": names.ERROR_ACCESS_DENIED,
        "Release": names.ERROR_NO_SUCH_HOLD,
    }
    for question, (error, body) in theirs.items():
        # A policy cannot tell what is meant by a call without interface, and refuses it.
        if "GetDetails" in question or " None " in question:
            assert (error, body[0][:21]) == (names.ERROR_ACCESS_DENIED, "Rejected send message")
    others = {member for (where, member) in failed if "freedesktop" in where}
    assert others == {"Set"}, "all is read-only"
    # The same questions get answers as root, and the addresses too.
    failed_too = {question.split()[2] for question, (error, _) in roots.items() if error}
    assert failed_too == {"Set", "Release"}, "the same hold twice"
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
