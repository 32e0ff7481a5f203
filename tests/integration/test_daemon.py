# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon around the engine: the service manager, signals and the bus, on a fake kernel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sdnotify

from kexecwatchd import configured, engine, imagefiles, notify, profiles, rounds
from kexecwatchd import daemon as daemon_module
from kexecwatchd.config import Sources
from kexecwatchd.daemon import Daemon
from kexecwatchd.holds import LIMIT
from kexecwatchd.kernel import kexec_file
from kexecwatchd.model import Action, ImageFiles, ImageName, Mode, State
from kexecwatchd.profiles import SetUp
from kexecwatchd.report import Decision, ImageStatus, Status
from kexecwatchd.requests import Held, NoSuchHold, Refused, TooManyHolds
from kexecwatchd.uevents import Batch
from tests.fake_kernel import CMDLINE, FakeKernel, cpio
from tests.integration.harness import PrivateBus, call, client, is_served, until
from tests.unit.kernel.trees import populate


class Uevents:
    """In the place of the netlink socket."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.batch = Batch()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def take(self) -> Batch:
        batch, self.batch = self.batch, Batch()
        return batch


class Service:
    """A daemon with its kernel, its configuration and its service manager."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel = FakeKernel(root, uevent=self._uevent)
        self.told: list[str] = []
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(root / "notify"))
        # A thread, because a full socket would block the daemon, and with it this loop.
        self.listening = threading.Thread(target=self._listen)
        self.listening.start()
        monkeypatch.setenv("NOTIFY_SOCKET", str(root / "notify"))
        self.notifier = sdnotify.SystemdNotifier(debug=True)
        monkeypatch.setattr(notify, "_notifier", lambda: self.notifier)
        monkeypatch.setattr(daemon_module, "Uevents", Uevents)
        monkeypatch.setattr(kexec_file, "load", self.kernel.load)
        monkeypatch.setattr(kexec_file, "unload", self.kernel.unload)
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        self.config = root / "kexecwatchd.toml"
        self.sources = Sources(explicit=self.config)
        self.configure()
        self.daemon: Daemon

    def _listen(self) -> None:
        while (message := self.manager.recv(65536)) != b"END":
            self.told += message.decode().splitlines()

    def close(self) -> None:
        self.notifier.notify("END")
        self.listening.join()
        self.notifier.socket.close()
        self.manager.close()

    def configure(self, mode: str = "ensure", more: str = "") -> None:
        boot = self.kernel.path("boot")
        self.config.write_text(
            f'[crash]\nmode = "{mode}"\nkernel = "{boot}/vmlinuz"\ninitrd = "{boot}/initrd.img"\n'
            f'cmdline = "{CMDLINE}"\n[reboot]\nmode = "off"\n[pacing]\nquiet = 0.01\n{more}'
        )

    def _uevent(self, subsystem: str, action: str, name: str) -> None:
        uevents: Any = self.daemon._uevents
        uevents.batch.events += 1
        if subsystem == "memory":
            uevents.batch.blocks.add(int(name.removeprefix("memory")))
        uevents.wake()

    @property
    def crash(self) -> ImageStatus:
        return self.daemon.status().images[0]

    async def hears(self, words: str) -> str:
        """Wait until the service manager was told something with these words."""

        async def told() -> bool:
            return any(words in line for line in self.told)

        await until(told)
        return next(line for line in self.told if words in line)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[asyncio.Task[None], None]:
        """The daemon, READY; ended by SIGTERM unless the test did it."""
        self.daemon = Daemon(self.sources, configured.read(self.sources), self.kernel.root)
        task = asyncio.ensure_future(self.daemon.run())
        try:
            await self.hears("READY=1")
            yield task
        finally:
            if not task.done():
                os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(20):
                await task


class NoBus:
    """In the place of the bus, on which nobody of those that the tests name is."""

    def __init__(self, backend: object) -> None:
        pass

    async def tried(self) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()

    def publish(self, status: Status) -> None:
        pass

    def decided(self, decision: Decision) -> None:
        pass


@pytest.fixture
def no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "Bus", NoBus)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    made = Service(tmp_path, monkeypatch)
    yield made
    made.close()


async def is_current(service: Service) -> bool:
    return service.crash.state is State.CURRENT


async def test_ready_only_after_the_first_look(service: Service) -> None:
    async with service.running():
        first = service.told.index("READY=1")
        assert any(line.startswith("STATUS=crash image absent") for line in service.told[:first])
        await service.hears("STATUS=crash image current")
        await service.hears("WATCHDOG=1")
        assert service.told.index("WATCHDOG=1") > first


async def test_a_new_initrd_wakes_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next idle look is longer away than the test waits, and so is the next round of checks."""
    monkeypatch.setattr(imagefiles, "QUIET", 0.05)
    monkeypatch.setattr(rounds, "CALM", 1000.0)

    async def is_idle() -> bool:
        return service.daemon._engine.deadline() > engine.now().boot + 30

    async def is_loaded_again() -> bool:
        return service.crash.load_count == 2

    async with service.running():
        await until(lambda: is_current(service))
        await until(is_idle)
        new = service.kernel.path("boot/initrd.img.new")
        new.write_bytes(cpio(b"another"))
        new.rename(service.kernel.path("boot/initrd.img"))
        await until(is_loaded_again)


async def test_the_watchdog_hears_from_an_idle_daemon(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    async with service.running():
        await until(lambda: is_current(service))
        for _ in range(3):
            await service.hears("WATCHDOG=1")
            service.told.clear()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_end_leaves_the_image_loaded(service: Service, number: signal.Signals) -> None:
    async with service.running() as task:
        await until(lambda: is_current(service))
        os.kill(os.getpid(), number)
        async with asyncio.timeout(20):
            await task
    await service.hears("STOPPING=1")
    assert service.kernel.loaded("crash")
    assert not service.kernel.unloads("crash")


async def test_the_metrics_say_what_is_so_until_the_end(service: Service) -> None:
    directory = service.kernel.path("run/kexecwatchd")
    textfile = directory / "kexecwatchd.prom"

    async def is_told() -> bool:
        return 'kexecwatch_image_state{image="crash",state="current"} 1.0' in textfile.read_text()

    async with service.running():
        await until(is_told)
        readable = {path.name for path in directory.iterdir() if path.stat().st_mode & 0o077}
        assert readable - {".keep"} == {"kexecwatchd.prom"}  # the one is the fake kernel's
    assert "kexecwatch_up 0.0" in textfile.read_text()
    assert "covered" not in textfile.read_text()


async def test_the_end_waits_for_a_load_in_flight(service: Service) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def hold(image: str) -> None:
        begun.set()
        may_end.wait(20)

    service.kernel.while_loading = hold
    async with service.running() as task:
        await until(lambda: asyncio.to_thread(begun.is_set))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        assert not task.done()
        may_end.set()
    assert service.kernel.loaded("crash")
    ledger = json.loads(service.kernel.path("run/kexecwatchd/ledger.json").read_text())
    assert ledger["crash"]["load_count"] == 1
    assert ledger["crash"]["intent"] is None


async def test_memory_that_comes_is_answered(service: Service) -> None:
    service.configure(more="unarmed_budget = 1.0\n")
    async with service.running():
        await until(lambda: is_current(service))
        service.kernel.add_dimm()
        await until(lambda: is_current_again(service))


async def is_current_again(service: Service) -> bool:
    return service.crash.load_count == 2 and service.crash.state is State.CURRENT


async def test_a_bad_configuration_leaves_the_old_one_in_force(service: Service) -> None:
    async def has_error() -> bool:
        return bool(service.daemon.status().config_error)

    async def has_none() -> bool:
        return not service.daemon.status().config_error and service.crash.mode == "observe"

    async with service.running():
        await until(lambda: is_current(service))
        service.config.write_text('[crash]\nmode = "always"\n')
        os.kill(os.getpid(), signal.SIGHUP)
        await until(has_error)
        status = service.daemon.status()
        assert str(service.config) in status.config_error
        assert service.crash.mode == "ensure"
        service.configure(mode="observe")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(has_none)


async def test_a_distribution_s_tool_is_gone_by_and_read_again(service: Service) -> None:
    root, boot = service.kernel.root, service.kernel.path("boot")
    defaults = root / "etc/default/kdump-tools"
    text = (
        f"USE_KDUMP=1\nKDUMP_KERNEL={boot}/vmlinuz\nKDUMP_INITRD={boot}/initrd.img\n"
        "KDUMP_CMDLINE=ro\nKDUMP_CMDLINE_APPEND='nr_cpus=1'\n"
    )
    populate(
        root,
        {
            "usr/lib/kexecwatchd/kexecwatchd.toml": '[crash]\nmode = "ensure"\n',
            "usr/sbin/kdump-config": "",
            "etc/default/kdump-tools": text,
            "proc/cmdline": "crashkernel=256M\n",
        },
    )
    service.sources = Sources(root)

    def loaded() -> str:
        return service.kernel.loads("crash")[-1].cmdline

    async def is_loaded_anew() -> bool:
        return loaded() == "rw nr_cpus=1 acpi_no_memhotplug" and service.crash.load_count == 2

    async def has_nothing_to_load() -> bool:
        return "USE_KDUMP is 0" in service.crash.next_step

    async with service.running():
        await until(lambda: is_current(service))
        assert loaded() == "ro nr_cpus=1 acpi_no_memhotplug"
        defaults.write_text(text.replace("=ro", "=rw"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(is_loaded_anew)
        service.kernel.set_loaded("crash", False)
        defaults.write_text(f"{text}USE_KDUMP=0\n")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(has_nothing_to_load)
        assert service.crash.mode == "ensure"


async def test_the_bus_shows_and_asks(
    service: Service, system_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus.address)
    async with service.running():
        await until(is_served)
        await until(lambda: is_current(service))
        async with client() as bus:
            reply = await call(bus, "Reload", "s", "crash")
            assert reply.body == ["current"]
            assert service.crash.load_count == 2
            reply = await call(bus, "GetHistory")
            told = json.loads(reply.body[0])["decisions"][-1]
            assert (told["action"], told["by"], told["result"]) == ("load", "uid 0", "current")
            reply = await call(bus, "Reload", "s", "reboot")
            assert reply.error_name == "org.kexecwatch1.Error.Refused"
            assert "mode off" in reply.body[0]
            reply = await call(bus, "Verify")
            assert reply.body == [True]
            reply = await call(bus, "GetStatus")
            assert json.loads(reply.body[0])["images"][0]["load_count"] == 2


async def test_who_verifies_at_once_shares_one_look(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service.running():
        await until(lambda: is_current(service))
        looks = 0
        looking = service.daemon._engine.look

        async def counted() -> None:
            nonlocal looks
            looks += 1
            await looking()

        monkeypatch.setattr(service.daemon._engine, "look", counted)
        answers = await asyncio.gather(*(service.daemon.verify() for _ in range(5)))
        assert looks <= 2
        assert all(answer.covered for answer in answers)


async def test_who_verifies_has_the_checks_asked_too(service: Service) -> None:
    async with service.running():
        await until(lambda: is_current(service))
        service.kernel.write("proc/sys/kernel/kexec_load_disabled", "1\n")
        first, second = await asyncio.gather(service.daemon.verify(), service.daemon.verify())
        assert "permission: no: kernel.kexec_load_disabled is 1" in first.check_problems
        assert first.covered, "the image is as it should be"
        assert second.check_problems == first.check_problems
        await service.hears("found by kexecwatchctl check")


async def test_a_change_without_an_event_is_verified(service: Service) -> None:
    async with service.running():
        await until(lambda: is_current(service))
        service.kernel.write("sys/devices/system/memory/memory5/state", "offline\n")
        service.kernel.set_loaded("crash", False)
        service.kernel.busy = 1000
        status = await service.daemon.verify()
        assert status.images[0].state is State.ABSENT


@pytest.mark.usefixtures("no_bus")
async def test_one_who_asked_and_left_harms_nobody(service: Service) -> None:
    async with service.running():
        await until(lambda: is_current(service))
        for asking in (
            service.daemon.reload(ImageName.CRASH, "uid 0"),
            service.daemon.hold(":1.5", "apt", "", "uid 0"),
            service.daemon.release(":1.5", 7, "uid 0"),
        ):
            asked = asyncio.ensure_future(asking)
            await asyncio.sleep(0)
            asked.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asked
        status = await service.daemon.verify()
        assert status.covered
        assert status.holds == []


@pytest.mark.usefixtures("no_bus")
async def test_what_is_asked_at_once_is_done_in_order(service: Service) -> None:
    """And a hold that is asked for during a load returns after it."""
    async with service.running():
        await until(lambda: is_current(service))
        before = len(service.kernel.loads("crash"))
        reloaded, number, mode = await asyncio.gather(
            service.daemon.reload(ImageName.CRASH, "uid 0"),
            service.daemon.hold(":1.5", "apt", "a new kernel", "uid 0"),
            service.daemon.set_mode(ImageName.CRASH, Mode.FOLLOW, "uid 0"),
        )
        assert reloaded.state is State.CURRENT
        assert (mode.mode, mode.configured_mode) == (Mode.FOLLOW, Mode.ENSURE)
        assert len(service.kernel.loads("crash")) == before + 1
        told = service.daemon.history().decisions[-3:]
        assert [d.action for d in told] == [Action.LOAD, Action.HOLD, Action.SET_MODE]
        discarded, refused = await asyncio.gather(
            service.daemon.discard(ImageName.CRASH, "uid 0"),
            service.daemon.reload(ImageName.CRASH, "uid 0"),
            return_exceptions=True,
        )
        assert isinstance(discarded, ImageStatus)
        assert not discarded.loaded
        assert isinstance(refused, Held)
        await service.daemon.release(":1.5", number, "uid 0")
        assert service.daemon.history().decisions[-1].action is Action.RELEASE


@pytest.mark.usefixtures("no_bus")
@pytest.mark.parametrize("exception", [NoSuchHold, Refused, TooManyHolds])
async def test_what_is_refused_is_told_to_who_asked_alone(
    service: Service, exception: type[Exception]
) -> None:
    asked: dict[type[Exception], Callable[[], Awaitable[object]]] = {
        NoSuchHold: lambda: service.daemon.release(":1.5", 1, "uid 0"),
        Refused: lambda: service.daemon.discard(ImageName.CRASH, "uid 0"),
        TooManyHolds: lambda: service.daemon.hold(":1.5", "apt", "", "uid 0"),
    }
    async with service.running():
        await until(lambda: is_current(service))
        if exception is TooManyHolds:
            for _ in range(LIMIT):
                await service.daemon.hold(":1.5", "apt", "", "uid 0")
        with pytest.raises(exception):
            await asked[exception]()
        assert (await service.daemon.verify()).covered


@pytest.mark.usefixtures("no_bus")
async def test_who_holds_is_known_until_they_are_gone(service: Service) -> None:
    async with service.running():
        await until(lambda: is_current(service))
        for holder in (":1.5", ":1.5", ":1.6"):
            await service.daemon.hold(holder, "apt", "", "uid 0")
        assert set(service.daemon.holders()) == {":1.5", ":1.6"}
    async with service.running():
        assert set(service.daemon.holders()) == {":1.5", ":1.6"}, "a restart lost some"
        service.daemon.gone(":1.5")
        await service.daemon.verify()
        assert set(service.daemon.holders()) == {":1.6"}


async def test_a_slow_load_holds_up_no_reader(service: Service) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def hold(image: str) -> None:
        begun.set()
        may_end.wait(20)

    async with service.running():
        await until(lambda: is_current(service))
        service.kernel.while_loading = hold
        asked = asyncio.ensure_future(service.daemon.reload(ImageName.CRASH, "uid 0"))
        await until(lambda: asyncio.to_thread(begun.is_set))
        assert service.crash.in_progress == "load"
        assert service.crash.in_progress_since > 0
        assert service.daemon.history().decisions
        may_end.set()
        assert (await asked).in_progress == ""


async def test_what_the_distributions_tool_says_now_counts_without_a_reload(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are watched. kexecwatchd.toml, which changed too, waits for a reload."""
    boot = service.kernel.path("boot")
    settings = tmp_path / "kdump-tools"

    def find(root: Path) -> SetUp:
        """A tool whose settings are a command line."""
        told = settings.read_text()
        files = ImageFiles(boot / "vmlinuz", boot / "initrd.img", told) if told else None
        return SetUp("kdump-tools", files, "it is switched off", reads=(settings,))

    monkeypatch.setattr(profiles, "find", find)
    monkeypatch.setattr(imagefiles, "QUIET", 0.05)
    settings.write_text(CMDLINE)
    service.config.write_text('[crash]\nmode = "ensure"\n[reboot]\nmode = "off"\n')
    async with service.running():
        await until(lambda: is_current(service))
        service.config.write_text("no TOML")
        settings.write_text(f"{CMDLINE} irqpoll")

        async def loaded_again() -> bool:
            return service.crash.load_count == 2 and await is_current(service)

        await until(loaded_again)
        (told,) = [d for d in service.daemon.history().decisions if d.action is Action.CONFIGURE]
        assert f"loaded from {boot}/vmlinuz now" in told.why
        assert service.daemon.status().config_error == ""

        settings.write_text("")

        async def told_off() -> bool:
            why = [d.why for d in service.daemon.history().decisions]
            return any("kdump-tools names none: it is switched off" in text for text in why)

        await until(told_off)
        assert service.crash.loaded, "what is loaded stays"


async def test_what_the_tool_says_counts_although_a_reload_was_refused(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both at the same moment."""
    boot = service.kernel.path("boot")
    settings = tmp_path / "kdump-tools"

    def find(root: Path) -> SetUp:
        files = ImageFiles(boot / "vmlinuz", boot / "initrd.img", settings.read_text())
        return SetUp("kdump-tools", files, reads=(settings,))

    monkeypatch.setattr(profiles, "find", find)
    settings.write_text(CMDLINE)
    service.config.write_text('[crash]\nmode = "ensure"\n[reboot]\nmode = "off"\n')
    async with service.running():
        await until(lambda: is_current(service))
        service.config.write_text("no TOML")
        settings.write_text(f"{CMDLINE} irqpoll")
        service.daemon._on_sources_changed()
        service.daemon._on_hangup()

        async def loaded_again() -> bool:
            return service.crash.load_count == 2 and await is_current(service)

        await until(loaded_again)
        assert service.daemon.status().config_error
