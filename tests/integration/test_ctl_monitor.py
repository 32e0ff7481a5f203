# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchctl monitor as a program, while the daemon comes, changes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator

import pytest
from dbus_fast import BusType, Message
from dbus_fast.aio import MessageBus

from kexecwatchd.bus import names
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.report import History, MonitorLine
from tests.integration.harness import (
    DECISION,
    NOBODY,
    ROOT,
    STALE,
    FakeBackend,
    PrivateBus,
    serving,
)


@contextlib.asynccontextmanager
async def monitoring(*options: str) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """As a user without rights."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.visitor", str(NOBODY), "ctl", "monitor"),
        *options,
        cwd=ROOT,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> MonitorLine:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        text = await process.stdout.readline()
    assert "\n" not in text.decode().rstrip("\n")
    return MonitorLine.model_validate(json.loads(text))


@pytest.mark.usefixtures("system_bus")
async def test_each_event_is_a_line_of_json(backend: FakeBackend) -> None:
    async with monitoring("--json") as process:
        assert (await line(process)).event == "gone"
        async with serving(backend) as service:
            assert (await line(process)).event == "back"
            assert (await line(process)).status == backend.now
            decided = DECISION.model_copy(update={"number": 13})
            backend.history = lambda: History(decisions=[DECISION, decided])  # type: ignore[method-assign]
            backend.now = STALE
            service.decided(decided)
            service.publish(STALE)
            assert (await line(process)).decision == decided
            assert (await line(process)).status == STALE
        assert (await line(process)).event == "gone"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == ExitCode.CURRENT
        assert process.stderr is not None
        assert await process.stderr.read() == b""


@pytest.mark.usefixtures("system_bus")
async def test_text_is_readable_and_ends_with_its_reader(backend: FakeBackend) -> None:
    async with serving(backend) as service, monitoring() as process:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            first = (await process.stdout.readline()).decode()
        assert "COVERED: crash image is current" in first
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        backend.now = STALE
        service.publish(STALE)
        async with asyncio.timeout(60):
            assert await process.wait() == ExitCode.CURRENT


@pytest.mark.usefixtures("backend")
async def test_a_lost_bus_is_said(system_bus: PrivateBus) -> None:
    async with monitoring("--json") as process:
        assert (await line(process)).event == "gone"
        system_bus.stop()
        async with asyncio.timeout(60):
            assert await process.wait() == ExitCode.UNREACHABLE
        assert process.stderr is not None
        assert b"bus is gone" in await process.stderr.read()


@pytest.mark.usefixtures("open_bus")
async def test_nobody_waits_for_a_daemon_that_hangs() -> None:
    """It has the name, and answers nothing; whoever interrupts is not kept until it is given up."""
    mute = await MessageBus(bus_type=BusType.SYSTEM).connect()
    await mute.request_name(names.BUS_NAME)
    asked = asyncio.Event()

    def swallow(message: Message) -> bool:
        if message.member == "GetStatus":
            asked.set()
        return True

    mute.add_message_handler(swallow)
    async with monitoring() as process:
        async with asyncio.timeout(60):
            await asked.wait()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == ExitCode.CURRENT
        assert process.stdout is not None
        assert await process.stdout.read() == b"", "it was not given up, which would be said"
    mute.disconnect()
    await mute.wait_for_disconnect()  # type: ignore[no-untyped-call]
