# SPDX-License-Identifier: GPL-2.0-or-later
"""A private bus, a backend that is told what to say, and kexecwatchctl run for real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.auth import UID_NOT_SPECIFIED, AuthExternal

from kexecwatchd.bus import Bus, names
from kexecwatchd.model import Action, ImageName, Mode, State
from kexecwatchd.report import (
    AddressRange,
    CheckResult,
    Decision,
    Details,
    DriftSizes,
    History,
    Hold,
    ImageDetails,
    ImageStatus,
    LastLoad,
    SegmentDetails,
    Status,
)
from kexecwatchd.requests import NoSuchHold

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "dbus" / "org.kexecwatch1.conf"
NOBODY = 65534

# What the policy of a system bus allows before any package adds to it (dbus-daemon's system.conf).
_SYSTEM_DEFAULTS = """
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
"""
# What polkit's package adds.
_POLKITS = """
  <policy context="default"><allow send_destination="org.freedesktop.PolicyKit1"/></policy>
  <policy user="root"><allow own="org.freedesktop.PolicyKit1"/></policy>
"""
_OPEN = """
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
"""

MISSING = AddressRange(start="0x140000000", end="0x17fffffff")
SEGMENT = SegmentDetails(start="0x13a53f000", end="0x13fffffff")


class PrivateBus:
    """A dbus-daemon of our own, with the policy that we ship, or one that allows everything."""

    def __init__(self, directory: Path, *, shipped_policy: bool) -> None:
        self.socket = directory / "bus"
        self.address = f"unix:path={self.socket}"
        self._config = directory / "bus.conf"
        self._process: subprocess.Popen[str] | None = None
        shipped = f"{_SYSTEM_DEFAULTS}{_POLKITS}<include>{POLICY}</include>"
        rules = shipped if shipped_policy else _OPEN
        self._config.write_text(
            "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN'"
            " 'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>"
            f"<busconfig><type>system</type><listen>{self.address}</listen>"
            f"<auth>EXTERNAL</auth><servicedir>{POLICY.parent}</servicedir>{rules}</busconfig>"
        )

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self._config}", "--nofork", "--print-address"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("unix:")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self.socket.unlink(missing_ok=True)


def image(name: ImageName, **changes: Any) -> ImageStatus:
    """A current image with every field set, so that a field that gets lost is seen."""
    return ImageStatus(
        image=name,
        mode=Mode.ENSURE,
        configured_mode=Mode.FOLLOW,
        state=State.CURRENT,
        reason="it lists all memory",
        covered=True,
        loaded=True,
        foreign=False,
        guarded=True,
        degraded="the initrd is gone",
        proof="read-back",
        since=1_700_000_000.25,
        drift=DriftSizes(missing_bytes=1 << 30, missing_ranges=1),
        in_progress="load",
        in_progress_since=1_700_000_000.5,
        load_count=3,
        last_load=LastLoad(at=1_700_000_001.5, seconds=1.75, succeeded=True, reason="memory came"),
        last_error="EBUSY",
        last_action="loaded it",
        last_action_at=1_700_000_002,
        next_step="nothing",
        next_try=1_700_000_003,
        start_obstacle="its memory went away",
    ).model_copy(update=changes)


HOLD = Hold(number=7, who="apt", why="a new kernel is installed", since=1_700_000_000.75)

DECISION = Decision(
    number=12,
    at=1_700_000_001.25,
    image=ImageName.CRASH,
    action=Action.LOAD,
    state=State.STALE,
    reason="512 MiB of memory would be missing from a dump",
    drift=DriftSizes(missing_bytes=1 << 29, missing_ranges=1),
    why="512 MiB of memory would be missing from a dump",
    source="configured",
    result=State.CURRENT,
    result_reason="it lists all of memory and every CPU",
    seconds=1.875,
    unarmed_seconds=1.5,
)


def checked(answer: str, summary: str = "it is so") -> CheckResult:
    """One check's answer; it has the answer's name."""
    return CheckResult(
        name=answer,
        question="Is it so?",
        answer=answer,
        summary=summary,
        explanation="It means that.",
        remedy="Set this.",
        facts={"size": 1 << 20},
    )


def status(*, looked_at: float = 1_700_000_004, **crash: Any) -> Status:
    """Both images; the keywords are changes to the crash image."""
    return Status(
        daemon_version="0.1.0",
        kernel_release="6.12.48+deb13-amd64",
        looked_at=looked_at,
        problem="a problem",
        config_error="a configuration error",
        configured_at=1_699_999_000.5,
        unarmed_seconds=3.5,
        holds=[HOLD],
        images=[image(ImageName.CRASH, **crash), image(ImageName.REBOOT, mode=Mode.FOLLOW)],
        checks=[checked("problem"), checked("warning"), checked("ok")],
    )


STALE = status(state=State.STALE, covered=False, reason="1 GiB is missing")


@dataclass
class FakeBackend:
    """Says what it is told to; an exception in `trouble` comes out of all that it is asked to do.

    `asked` has what that was, and by whom.
    """

    now: Status = field(default_factory=status)
    trouble: Exception | None = None
    may_reload: asyncio.Event = field(default_factory=asyncio.Event)
    reloads: list[ImageName] = field(default_factory=list)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    held: dict[int, str] = field(default_factory=dict)  # number -> holder
    verifies: int = 0

    def status(self) -> Status:
        return self.now

    def details(self) -> Details:
        return Details(
            images=[
                ImageDetails(image=ImageName.CRASH, missing=[MISSING], elfcorehdr=MISSING.start),
                ImageDetails(image=ImageName.REBOOT, segments=[SEGMENT]),
            ]
        )

    def history(self) -> History:
        return History(decisions=[DECISION])

    async def reload(self, image: ImageName, by: str) -> ImageStatus:
        self.reloads.append(image)
        self._note("reload", image, by)
        await self.may_reload.wait()
        return self._image(image)

    async def discard(self, image: ImageName, by: str) -> ImageStatus:
        self._note("discard", image, by)
        return self._image(image)

    async def set_mode(self, image: ImageName, mode: Mode | None, by: str) -> ImageStatus:
        self._note("set_mode", image, mode, by)
        return self._image(image)

    async def hold(self, holder: str, who: str, why: str, by: str) -> int:
        self._note("hold", who, why, by)
        number = max(self.held, default=0) + 1
        self.held[number] = holder
        return number

    async def release(self, holder: str, number: int, by: str) -> None:
        self._note("release", number, by)
        if self.held.get(number) != holder:
            raise NoSuchHold(f"there is no hold {number} of yours")
        del self.held[number]

    def holders(self) -> Collection[str]:
        return frozenset(self.held.values())

    def gone(self, holder: str) -> None:
        self.held = {number: who for number, who in self.held.items() if who != holder}

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.trouble:
            raise self.trouble

    def _image(self, name: ImageName) -> ImageStatus:
        return next(i for i in self.now.images if i.image is name)

    async def verify(self) -> Status:
        self.verifies += 1
        if self.trouble:
            raise self.trouble
        return self.now


@contextlib.asynccontextmanager
async def serving(backend: FakeBackend) -> AsyncGenerator[Bus, None]:
    """The daemon's side, on the bus and with its name."""
    bus = Bus(backend, first_pause=0.01, longest_pause=0.1)
    async with running(bus):
        await until(is_served)
        yield bus


@contextlib.asynccontextmanager
async def running(bus: Bus) -> AsyncGenerator[None, None]:
    task = asyncio.ensure_future(bus.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def client(uid: int = 0) -> AsyncGenerator[MessageBus, None]:
    """A connection of this user: the bus asks the kernel whose it was when it was made."""
    os.seteuid(uid)
    try:
        auth = AuthExternal(UID_NOT_SPECIFIED)
        bus = await MessageBus(bus_type=BusType.SYSTEM, auth=auth).connect()
    finally:
        os.seteuid(0)
    try:
        yield bus
    finally:
        bus.disconnect()
        with contextlib.suppress(EOFError, OSError):
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


async def call(
    bus: MessageBus,
    member: str,
    signature: str = "",
    *body: Any,
    path: str = names.MANAGER_PATH,
    interface: str | None = names.MANAGER_INTERFACE,
    flags: MessageFlag = MessageFlag.NONE,
) -> Message:
    """The reply, be it an error."""
    return await bus.call(
        Message(
            destination=names.BUS_NAME,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            flags=flags,
        )
    )


async def get_all(bus: MessageBus, path: str, interface: str) -> dict[str, Any]:
    """The properties of one interface, as {name: Variant}."""
    reply = await call(
        bus, "GetAll", "s", interface, path=path, interface="org.freedesktop.DBus.Properties"
    )
    assert reply.message_type is MessageType.METHOD_RETURN, reply.body
    properties: dict[str, Any] = reply.body[0]
    return properties


async def listen(bus: MessageBus) -> None:
    """Have this connection get all signals of the service."""
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


async def is_served() -> bool:
    """Whether the name has an owner, on a bus that may be away."""
    try:
        async with client() as bus:
            reply = await bus.call(
                Message(
                    destination="org.freedesktop.DBus",
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus",
                    member="NameHasOwner",
                    signature="s",
                    body=[names.BUS_NAME],
                )
            )
    except (EOFError, OSError):
        return False
    return bool(reply.body[0])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition()` holds; the limit is only there to end a broken test."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110  # it is another process's state
            await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


async def visitor(*arguments: str, uid: int = 0, **environment: str) -> Ran:
    """Run tests/integration/visitor.py as another process and user."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.visitor", str(uid), *arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def ctl(*arguments: str, uid: int = 0, **environment: str) -> Ran:
    return await visitor("ctl", *arguments, uid=uid, **environment)


async def read_all(uid: int) -> dict[str, Any]:
    """All that a user can get out of the service: {question: [error name or "", body]}.

    A question is path, interface, member and arguments.
    """
    ran = await visitor("read", uid=uid)
    assert ran.code == 0, ran.err
    answers: dict[str, Any] = json.loads(ran.out)
    return answers


def asked_for(answers: dict[str, Any], member: str) -> list[tuple[str, list[Any]]]:
    """Of those, what came back from a method of ours."""
    return [
        (error, body)
        for question, (error, body) in answers.items()
        if question.split()[:3:2] == [names.MANAGER_PATH, member]
    ]
