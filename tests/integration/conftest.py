# SPDX-License-Identifier: GPL-2.0-or-later
"""A private system bus for each test; nothing here ever talks to the machine's own."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.integration import world
from tests.integration.harness import FakeBackend, PrivateBus

# In the background of a shell SIGINT is ignored, and so it would be for the programs that we run.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def bus_directory(monkeypatch: pytest.MonkeyPatch) -> Generator[Path, None, None]:
    """A directory that any user can enter (tmp_path is root's alone), set as the bus's place."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the policy lets only root own the name, and users are changed")
    if shutil.which("dbus-daemon") is None:
        pytest.skip("needs dbus-daemon (Debian: apt install dbus-daemon)")
    with tempfile.TemporaryDirectory(prefix="kexecwatchd-bus-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={directory / 'bus'}")
        yield directory


@pytest.fixture(autouse=True)
def closed_alarms() -> Generator[None, None, None]:
    """A user can have 128 inotify instances (fs.inotify.max_user_instances)."""
    yield
    while world.opened:
        world.opened.pop().close()


@pytest.fixture
def absent_bus(bus_directory: Path) -> Generator[PrivateBus, None, None]:
    """With the policy that we ship; not started."""
    bus = PrivateBus(bus_directory, shipped_policy=True)
    yield bus
    bus.stop()


@pytest.fixture
def system_bus(absent_bus: PrivateBus) -> PrivateBus:
    """With the policy that we ship."""
    absent_bus.start()
    return absent_bus


@pytest.fixture
def open_bus(bus_directory: Path) -> Generator[PrivateBus, None, None]:
    """A bus that lets everything through: only the daemon's own checks are left."""
    bus = PrivateBus(bus_directory, shipped_policy=False)
    bus.start()
    yield bus
    bus.stop()


@pytest.fixture
async def backend() -> FakeBackend:
    return FakeBackend()
