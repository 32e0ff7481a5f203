# SPDX-License-Identifier: GPL-2.0-or-later
"""How a hold of kexecwatchctl ends: with its command, by a signal, or with the bus."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from kexecwatchd.ctl.exitcodes import ExitCode
from tests.integration.harness import ROOT, FakeBackend, PrivateBus, ctl, serving, until

# A shell that says when its trap is set, and ends by it. It sleeps in short steps: a signal is
# seen between two.
_TRAPPED = 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'


async def hold(*arguments: str) -> asyncio.subprocess.Process:
    """`kexecwatchctl hold`, once it has written a line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kexecwatchd.ctl", "hold", *arguments),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline()
    return process


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_hold_without_a_command(
    backend: FakeBackend, number: signal.Signals
) -> None:
    async def released() -> bool:
        return not backend.held

    async with serving(backend):
        process = await hold("--who", "me")
        assert backend.held
        process.send_signal(number)
        _, err = await process.communicate()
        assert (process.returncode, err) == (ExitCode.CURRENT, b"")
        await until(released)


@pytest.mark.usefixtures("system_bus")
async def test_a_request_to_end_is_passed_to_the_command(backend: FakeBackend) -> None:
    async with serving(backend):
        process = await hold("sh", "-c", _TRAPPED)
        assert backend.held
        process.send_signal(signal.SIGINT)  # a terminal would have sent it to both
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 9


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize(
    ("command", "code"),
    [(("sh", "-c", "kill -KILL $$"), 137), (("/no/such",), 127), (("/etc/passwd",), 126)],
)
async def test_the_exit_code_is_as_a_shell_has_it(
    backend: FakeBackend, command: tuple[str, ...], code: int
) -> None:
    async with serving(backend):
        ran = await ctl("hold", *command)
    assert ran.code == code
    assert ("cannot be run" in ran.err) is (code < 128)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("command", [(), ("sh", "-c", _TRAPPED)])
async def test_the_loss_of_the_bus_is_said(
    backend: FakeBackend, system_bus: PrivateBus, command: tuple[str, ...]
) -> None:
    async with serving(backend):
        process = await hold(*command)
        system_bus.stop()
        assert process.stderr is not None
        said = await process.stderr.readline()
        if command:
            process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert said.startswith(b"kexecwatchctl: the hold has ended: the system bus hung up")
    assert process.returncode == (9 if command else ExitCode.UNREACHABLE)
