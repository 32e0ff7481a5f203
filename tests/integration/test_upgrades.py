# SPDX-License-Identifier: GPL-2.0-or-later
"""New kernels and initrds: real files and real inotify, on a fake kernel and its clock."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kexecwatchd import preflight
from kexecwatchd.imagefiles import PACKAGE_LOCKS, PATIENCE, QUIET
from kexecwatchd.kernel import inotify
from kexecwatchd.kernel.inotify import Event, Inotify
from kexecwatchd.model import Action, ImageName, State
from kexecwatchd.report import Decision
from tests.fake_kernel import DIMM, bzimage, cpio
from tests.integration import world as worlds
from tests.integration.world import World
from tests.unit.kernel.locks import held

SOON = QUIET + 0.1
NEW_INITRD = cpio(b"another init, which is longer")
NEW_KERNEL = bzimage(b"two")


class Making(Protocol):
    def __call__(self, **options: Any) -> World: ...


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    def make(**options: Any) -> World:
        return World(tmp_path, monkeypatch, **options)

    return make


async def armed(w: World, crash: str = "ensure", reboot: str = "off") -> World:
    await w.start(w.configured(crash=crash, reboot=reboot))
    await w.run(600)
    w.kernel.calls.clear()
    w.decided.clear()
    return w


def initrd(w: World) -> Path:
    return w.kernel.path("boot/initrd.img")


def kernel(w: World) -> Path:
    return w.kernel.path("boot/vmlinuz")


def rename_over(path: Path, data: bytes) -> None:
    """As update-initramfs does."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.rename(path)


def loads(w: World) -> list[Decision]:
    return [d for d in w.decided if d.action is Action.LOAD]


# What is new is loaded, once


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("boot/initrd.img", NEW_INITRD, "the initrd on disk was replaced"),
        ("boot/vmlinuz", NEW_KERNEL, "the kernel on disk was replaced"),
    ],
)
@pytest.mark.parametrize("write", [rename_over, Path.write_bytes])
async def test_a_new_file_is_loaded_once(
    world: Making, name: str, data: bytes, why: str, write: Callable[[Path, bytes], None]
) -> None:
    w = await armed(world())
    write(w.kernel.path(name), data)
    await w.run(SOON)
    assert [d.why for d in w.decided] == [why]
    await w.run(3600)
    assert len(w.kernel.calls) == 1
    assert [d.result for d in w.decided] == [State.CURRENT]
    assert (w.crash().last_load.source, w.crash().last_load.reason) == ("configured", why)


async def test_the_control_of_the_test_above(world: Making) -> None:
    w = await armed(world())
    rename_over(initrd(w).with_name("initrd.img-other"), NEW_INITRD)
    await w.run(3600)
    assert not w.kernel.calls


async def test_both_at_once_are_one_load(world: Making) -> None:
    w = await armed(world())
    w.at(0, rename_over, kernel(w), NEW_KERNEL)
    w.at(QUIET - 0.5, rename_over, initrd(w), NEW_INITRD)
    await w.run(3600)
    assert [d.why for d in w.decided] == ["the kernel and initrd on disk were replaced"]


async def test_the_reboot_image_too(world: Making) -> None:
    w = await armed(world(), crash="off", reboot="follow")
    w.kernel.load_reboot_by_someone()
    await w.run(120)
    rename_over(initrd(w), NEW_INITRD)
    await w.run(3600)
    assert [(c.image, c.unload) for c in w.kernel.calls] == [("reboot", False)]
    assert w.reboot().state is State.CURRENT


async def test_a_guarded_reboot_image_too(world: Making) -> None:
    w = world()
    w.kernel.add_dimm(zone="Movable")
    await armed(w, crash="off", reboot="ensure")
    assert w.reboot().state is State.UNSAFE
    rename_over(initrd(w), NEW_INITRD)
    await w.run(3600)
    assert [(c.image, c.unload) for c in w.kernel.calls] == [("reboot", False)]


@pytest.mark.parametrize("mode", ["observe", "off"])
async def test_where_the_mode_touches_nothing_nothing_is_loaded(world: Making, mode: str) -> None:
    w = world()
    w.kernel.load_crash_by_kexec_tools()
    await armed(w, crash=mode)
    rename_over(initrd(w), NEW_INITRD)
    await w.run(3600)
    assert not w.kernel.calls


async def test_what_was_missed_while_only_observing_is_made_up_for(world: Making) -> None:
    w = await armed(world())
    await w.start(w.configured(crash="observe"))
    rename_over(initrd(w), NEW_INITRD)
    await w.run(600)
    assert not w.kernel.calls
    await w.start(w.configured(crash="follow"))
    await w.run(600)
    assert len(w.kernel.calls) == 1


async def test_none_is_loaded_where_none_is_to_be(world: Making) -> None:
    w = await armed(world(), crash="follow")
    rename_over(initrd(w), NEW_INITRD)
    await w.run(3600)
    assert not w.kernel.calls


async def test_a_foreign_image_is_replaced_by_the_new_files(world: Making) -> None:
    w = world()
    w.kernel.load_crash_by_kexec_tools()
    await armed(w, crash="follow")
    assert w.crash().foreign
    rename_over(initrd(w), NEW_INITRD)
    await w.run(3600)
    assert [d.why for d in w.decided] == [
        "the initrd on disk was replaced, after somebody else loaded the image"
    ]
    assert not w.crash().foreign


@pytest.mark.parametrize("pause", [10, -10])
async def test_a_foreign_image_and_new_files_between_two_looks(world: Making, pause: int) -> None:
    """Nobody tells which of the two came first, so it is loaded again."""
    w = await armed(world(), crash="off", reboot="follow")
    w.alarm.close()  # no look comes when the file changes
    await w.engine.look()
    w.at(30, w.kernel.load_reboot_by_someone)
    w.at(30 + pause, rename_over, initrd(w), NEW_INITRD)
    await w.run(3600)
    assert len(w.kernel.calls) == 1
    assert not w.reboot().foreign


async def test_a_foreign_image_after_new_files_that_were_seen(world: Making) -> None:
    w = await armed(world(), crash="off", reboot="follow")
    rename_over(initrd(w), NEW_INITRD)
    await w.run(120)
    w.kernel.load_reboot_by_someone()
    await w.run(3600)
    assert not w.kernel.calls
    assert w.reboot().foreign


async def test_a_foreign_image_stays_when_other_files_are_configured(world: Making) -> None:
    w = world()
    w.kernel.load_crash_by_kexec_tools()
    await armed(w, crash="follow")
    initrd(w).rename(initrd(w).with_name("other"))
    config = w.configured(crash="follow")
    other = config.crash.model_copy(update={"initrd": initrd(w).with_name("other")})
    w.desk.reconfigure(config.model_copy(update={"crash": other}))
    await w.run(3600)
    assert not w.kernel.calls
    assert w.crash().foreign


async def test_the_budget_holds_for_these_loads(world: Making) -> None:
    w = await armed(world())
    for number in range(20):
        w.at(10 * number, rename_over, initrd(w), cpio(b"x" * number))
    await w.run(200)
    assert len(w.kernel.calls) * worlds.LOAD_SECONDS <= 0.05 * 200 + worlds.LOAD_SECONDS
    await w.run(60)
    assert w.crash().next_step == ""


# Links


async def test_a_link_that_is_re_pointed(world: Making, tmp_path: Path) -> None:
    """/vmlinuz -> boot/vmlinuz-2, with a directory that is a link itself on the way."""
    w = world()
    boot = w.kernel.path("boot")
    kernel(w).rename(boot / "vmlinuz-1")
    (boot / "vmlinuz-2").write_bytes(NEW_KERNEL)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/current").symlink_to("../boot")
    kernel(w).symlink_to(tmp_path / "links/current/vmlinuz-1")
    await armed(w)
    (boot / "link").symlink_to("../links/current/vmlinuz-2")
    (boot / "link").rename(kernel(w))
    await w.run(SOON)
    assert [d.why for d in w.decided] == ["the kernel on disk was replaced"]
    # and what it leads to now is watched
    rename_over(boot / "vmlinuz-2", bzimage(b"three"))
    await w.run(SOON + worlds.LOAD_SECONDS / 0.05)
    assert len(w.kernel.calls) == 2
    # and so is the link in the middle
    other = tmp_path / "other"
    other.mkdir()
    rename_over(other / "vmlinuz-2", bzimage(b"four"))
    (tmp_path / "links/new").symlink_to(other)
    (tmp_path / "links/new").rename(tmp_path / "links/current")
    await w.run(SOON + worlds.LOAD_SECONDS / 0.05)
    assert len(w.kernel.calls) == 3


async def test_a_directory_that_comes_back(world: Making) -> None:
    w = await armed(world())
    boot = w.kernel.path("boot")
    boot.rename(boot.with_name("old"))
    await w.run(SOON)
    assert not w.kernel.calls
    boot.mkdir()
    await w.run(SOON)
    (boot / "vmlinuz").write_bytes(bzimage())
    (boot / "initrd.img").write_bytes(NEW_INITRD)
    await w.run(SOON)
    assert len(w.kernel.calls) == 1


# What is not complete is not loaded


async def test_one_that_is_open_for_writing_is_waited_for(world: Making) -> None:
    w = await armed(world())
    with initrd(w).open("wb") as file:
        file.write(NEW_INITRD)
        file.flush()
        await w.run(600)
        assert "a new initrd is being written" in w.crash().next_step
        assert w.crash().state is State.CURRENT
        assert w.crash().covered
    assert not w.kernel.calls
    await w.run(QUIET - 0.2)
    await w.engine.look()
    assert not w.kernel.calls
    await w.engine.look()
    assert "changed just now" in w.crash().next_step
    await w.run(0.2)
    assert len(w.kernel.calls) == 1
    assert [d.action for d in w.decided] == [Action.LOAD], "one entry for all of it"


async def test_one_that_is_opened_for_writing_just_when_it_is_checked(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And closed without a change: the check that refused it says nothing any more."""
    w = await armed(world())
    rename_over(initrd(w), NEW_INITRD)
    writers: list[Any] = []
    checked = preflight.checked

    def opened_first(*arguments: Any) -> Any:
        if not writers:
            writers.append(initrd(w).open("ab"))
        return checked(*arguments)

    monkeypatch.setattr(preflight, "checked", opened_first)
    await w.run(SOON)
    assert not w.kernel.calls
    writers[0].close()
    await w.run(SOON)
    assert len(w.kernel.calls) == 1


async def test_one_that_grows_piece_by_piece_is_waited_for(world: Making) -> None:
    """A shell loop that appends: nobody has it open in between."""
    w = await armed(world())
    initrd(w).write_bytes(b"")

    def append(data: bytes) -> None:
        with initrd(w).open("ab") as file:
            file.write(data)

    for number, byte in enumerate(NEW_INITRD):
        w.at(0.3 * number, append, bytes([byte]))
    await w.run(0.3 * len(NEW_INITRD))
    assert not w.kernel.calls
    await w.run(SOON)
    assert len(w.kernel.calls) == 1
    assert [d.action for d in w.decided] == [Action.LOAD], "one entry for all of it"


async def test_a_storm_of_file_events_is_no_storm_of_looks(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = await armed(world())
    looks = 0
    look = w.engine._look

    def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return look(*arguments)

    monkeypatch.setattr(w.engine, "_look", counted)
    for number in range(1000):
        w.at(0.05 * number, rename_over, initrd(w), cpio(b"x" * (number + 1)))
    await w.run(50 + SOON)
    assert len(w.kernel.calls) == 1
    assert looks <= 4


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda w: initrd(w).write_bytes(NEW_INITRD[:-40]), "truncated"),
        (lambda w: initrd(w).write_bytes(b""), "empty"),
        (lambda w: initrd(w).unlink(), "does not exist"),
        (lambda w: kernel(w).unlink(), "does not exist"),
        (lambda w: kernel(w).write_bytes(NEW_KERNEL[:-40]), "vmlinuz"),
        (lambda w: initrd(w).chmod(0o666), "chmod"),
    ],
)
async def test_what_could_not_be_loaded_leaves_the_image_as_it_is(
    world: Making, spoil: Callable[[World], None], says: str
) -> None:
    w = await armed(world())
    spoil(w)
    await w.run(3600)
    assert not w.kernel.calls
    assert w.crash().state is State.CURRENT
    assert not w.crash().degraded
    assert says in w.crash().next_step
    [told] = w.decided
    assert (told.action, says in told.why) == (Action.VERDICT, True)


async def test_the_initrd_first_and_the_kernel_later(world: Making) -> None:
    """A new kernel whose initrd takes a minute to be made: the link leads nowhere until then."""
    w = world()
    boot = w.kernel.path("boot")
    for name in ("vmlinuz", "initrd.img"):
        (boot / name).rename(boot / f"{name}-1")
        (boot / name).symlink_to(f"{name}-1")
    await armed(w)
    for name in ("vmlinuz", "initrd.img"):
        (boot / name).unlink()
        (boot / name).symlink_to(f"{name}-2")
    (boot / "initrd.img-2").write_bytes(NEW_INITRD)
    await w.run(60)
    assert not w.kernel.calls
    assert "does not exist" in w.crash().next_step
    (boot / "vmlinuz-2").write_bytes(NEW_KERNEL)
    await w.run(SOON)
    assert len(w.kernel.calls) == 1
    assert loads(w)[0].why == "the kernel and initrd on disk were replaced"


@pytest.mark.parametrize("lock", PACKAGE_LOCKS)
async def test_a_kernel_and_its_initrd_of_one_package_run_are_one_load(
    world: Making, lock: str
) -> None:
    """The initrd is made minutes after the kernel, and both keep their names."""
    w = world()
    path = w.kernel.path(lock)
    path.parent.mkdir(parents=True)
    await armed(w)
    with held(path):
        rename_over(kernel(w), NEW_KERNEL)
        await w.run(300)
        assert not w.kernel.calls
        assert f"once {PACKAGE_LOCKS[lock]} has done its work" in w.crash().next_step
        rename_over(initrd(w), NEW_INITRD)
        await w.run(300)
        assert not w.kernel.calls
    await w.run(SOON)
    assert len(w.kernel.calls) == 1
    assert [d.why for d in w.decided] == ["the kernel and initrd on disk were replaced"]


async def test_a_package_manager_that_never_ends_is_waited_for_so_long(world: Making) -> None:
    w = world()
    path = w.kernel.path("var/lib/dpkg/lock-frontend")
    path.parent.mkdir(parents=True)
    await armed(w)
    with held(path):
        rename_over(kernel(w), NEW_KERNEL)
        await w.run(PATIENCE - 1)
        assert not w.kernel.calls
        await w.run(2)
        assert len(w.kernel.calls) == 1


async def test_a_package_manager_that_changes_none_of_the_files_is_nobodys_business(
    world: Making,
) -> None:
    w = world()
    path = w.kernel.path("var/lib/dpkg/lock")
    path.parent.mkdir(parents=True)
    await armed(w)
    with held(path):
        w.kernel.add_dimm()
        await w.run(600)
        assert len(w.kernel.calls) == 1


async def test_a_kernel_that_is_purged_is_no_reason_for_anything(world: Making) -> None:
    w = await armed(world())
    kernel(w).unlink()
    initrd(w).unlink()
    await w.run(3600)
    assert not w.kernel.calls
    w.kernel.add_dimm()
    await w.run(3600)
    assert [(d.source, d.result) for d in loads(w)] == [("last-good", State.CURRENT)]


async def test_removed_and_back_as_it_was_is_no_new_file(world: Making) -> None:
    w = await armed(world())
    data = initrd(w).read_bytes()
    initrd(w).unlink()
    await w.run(60)
    initrd(w).write_bytes(data)
    await w.run(3600)
    assert not w.kernel.calls
    assert w.crash().next_step == ""
    # and it goes on to be so
    os.link(initrd(w), initrd(w).with_name("backup"))
    await w.run(3600)
    assert not w.kernel.calls
    rename_over(initrd(w), NEW_INITRD)
    await w.run(3600)
    assert len(w.kernel.calls) == 1


async def test_the_same_content_is_loaded_for_another_command_line(world: Making) -> None:
    """The configuration waits for the initrd that is being written. Memory comes meanwhile, and the
    copies are loaded for it, with the old command line."""
    w = await armed(world())
    config = w.configured(crash="ensure")
    other = config.crash.model_copy(update={"cmdline": f"{config.crash.cmdline} panic=1"})
    with initrd(w).open("r+b") as file:
        w.desk.reconfigure(config.model_copy(update={"crash": other}))
        await w.run(30)
        assert not w.kernel.calls
        assert "being written" in w.crash().next_step
        w.kernel.add_dimm()
        await w.run(30)
        assert "being written" in w.crash().degraded
        file.write(initrd(w).read_bytes()[:1])
    await w.run(3600)
    assert [d.source for d in loads(w)] == ["last-good", "configured"]
    assert w.crash().degraded == ""
    assert b"panic=1" in w.kernel.path("proc/kcore").read_bytes()[-4096:]


async def test_where_no_copy_could_be_kept_the_same_content_is_loaded_again(
    world: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world()
    w.kernel.path("var/lib").mkdir(parents=True)
    w.kernel.path("var/lib/kexecwatchd").write_text("in the way")
    await armed(w)
    os.link(initrd(w), initrd(w).with_name("backup"))
    await w.run(3600)
    assert len(w.kernel.calls) == 1


# Loads for other reasons, meanwhile


async def test_memory_that_comes_while_a_file_is_written_is_answered_from_the_copies(
    world: Making,
) -> None:
    """The kernel would answer ETXTBSY, when the old image is gone already."""
    w = await armed(world())
    with initrd(w).open("ab"):
        w.kernel.add_dimm()
        await w.run(30)
        assert [(d.source, d.result) for d in loads(w)] == [("last-good", State.CURRENT)]
        assert "being written" in w.crash().degraded
    await w.run(600)
    # Nothing was written after all; still the configured files get their chance.
    assert w.crash().degraded == ""
    assert [c.error for c in w.kernel.calls] in ([0], [0, 0])


async def test_a_load_for_memory_takes_the_new_files_along(world: Making) -> None:
    w = await armed(world())
    rename_over(initrd(w), NEW_INITRD)
    w.kernel.add_dimm()
    await w.run(3600)
    assert len(w.kernel.calls) == 1
    assert w.crash().degraded == ""


async def test_degraded_files_get_their_chance_when_they_change(world: Making) -> None:
    w = await armed(world())
    initrd(w).write_bytes(NEW_INITRD[:-40])
    w.kernel.add_dimm()
    await w.run(600)
    assert w.crash().degraded
    initrd(w).write_bytes(NEW_INITRD)
    await w.run(SOON)
    assert w.crash().degraded == ""
    assert w.crash().last_load.source == "configured"
    assert len(w.kernel.calls) == 2


async def test_what_the_kernel_refused_gets_its_chance_when_it_changes(world: Making) -> None:
    w = await armed(world())
    w.kernel.errors = [errno.ENOEXEC]
    rename_over(kernel(w), NEW_KERNEL)
    await w.run(3600)
    assert [c.error for c in w.kernel.calls] == [errno.ENOEXEC, 0], "and not again"
    assert "ENOEXEC" in w.crash().degraded
    rename_over(kernel(w), bzimage(b"three"))
    await w.run(3600)
    assert [c.error for c in w.kernel.calls] == [errno.ENOEXEC, 0, 0]
    assert w.crash().degraded == ""


async def test_a_load_that_fails_for_now_is_tried_again_with_pauses(world: Making) -> None:
    w = await armed(world(), crash="off", reboot="ensure")
    w.kernel.errors = [errno.ENOMEM] * 20
    rename_over(initrd(w), NEW_INITRD)
    await w.run(300)
    assert 4 < len(w.kernel.calls) < 16
    assert len(loads(w)) == 1, "the same failure is told once"
    await w.run(3600)
    assert w.kernel.calls[-1].error == 0
    assert w.reboot().last_load.source == "configured"


async def test_a_machine_without_image_tries_as_soon_as_the_files_are_there(world: Making) -> None:
    w = world()
    data = initrd(w).read_bytes()
    initrd(w).unlink()
    await armed(w)
    assert w.crash().state is State.FAILED
    await w.run(3600)
    initrd(w).write_bytes(data)
    await w.run(SOON)
    assert w.crash().state is State.CURRENT


async def test_who_holds_holds_these_loads_too(world: Making) -> None:
    w = await armed(world())
    number = await w.desk.hold("me", "me", "work", "uid 0")
    rename_over(initrd(w), NEW_INITRD)
    await w.run(600)
    assert not w.kernel.calls
    await w.desk.release("me", number, "uid 0")
    await w.run(SOON)
    assert len(w.kernel.calls) == 1


async def test_one_that_is_asked_for_takes_what_is_there(world: Making) -> None:
    w = await armed(world())
    rename_over(initrd(w), NEW_INITRD)
    await w.desk.reload(ImageName.CRASH, "uid 0")
    await w.run(3600)
    assert len(w.kernel.calls) == 1


# The daemon itself


async def test_a_restart_between_the_change_and_quiet_loses_nothing(world: Making) -> None:
    w = await armed(world())
    rename_over(initrd(w), NEW_INITRD)
    await w.run(QUIET / 2)
    assert not w.kernel.calls
    await w.start(w.configured(crash="ensure"))
    await w.run(SOON)
    assert len(w.kernel.calls) == 1


async def test_a_restart_alone_loads_nothing(world: Making) -> None:
    w = await armed(world())
    for _ in range(3):
        await w.start(w.configured(crash="ensure"))
        await w.run(600)
    assert not w.kernel.calls


async def test_a_change_while_no_daemon_runs_is_seen(world: Making) -> None:
    w = await armed(world())
    w.alarm.close()
    rename_over(initrd(w), NEW_INITRD)
    await w.start(w.configured(crash="ensure"))
    await w.run(SOON)
    assert len(w.kernel.calls) == 1


@pytest.mark.parametrize("how", ["lost", "overflow", "none to be had"])
async def test_without_events_it_takes_one_idle_look_and_quiet(
    world: Making, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def refused(self: Inotify) -> None:
        raise OSError(errno.EMFILE, "no inotify instance can be had: Too many open files")

    def read(self: Inotify) -> list[Event]:
        events = real(self)
        return [Event(-1, inotify.IN_Q_OVERFLOW, "")] if events and how == "overflow" else []

    real = Inotify.read
    if how == "none to be had":
        monkeypatch.setattr(Inotify, "__init__", refused)
    else:
        monkeypatch.setattr(Inotify, "read", read)
    w = await armed(world())
    told = [line for line in w.journal if "inotify" in line]
    assert len(told) == (how == "none to be had")
    rename_over(initrd(w), NEW_INITRD)
    await w.run(SOON)
    assert len(w.kernel.calls) == (how == "overflow")
    await w.run(60 + QUIET)
    assert len(w.kernel.calls) == 1


async def test_files_that_the_configuration_is_completed_from(
    world: Making, tmp_path: Path
) -> None:
    """What is told: that they changed, when they are finished, once for each change."""
    w = world()
    defaults = tmp_path / "etc/default/kdump-tools"
    defaults.parent.mkdir(parents=True)
    w.sources = [defaults, tmp_path / "etc/kdump.conf"]
    await armed(w)
    assert w.sources_changed == []
    began = w.now
    defaults.write_text("USE_KDUMP=1\n")
    w.at(3, rename_over, defaults, b"USE_KDUMP=1\nKDUMP_CMDLINE=quiet\n")
    await w.run(600)
    assert w.sources_changed == [pytest.approx(began + 3 + QUIET)]
    (tmp_path / "etc/kdump.conf").symlink_to("default/kdump-tools")
    await w.run(600)
    assert len(w.sources_changed) == 2
    with defaults.open("a") as file:
        file.write("#")
        file.flush()
        await w.run(600)
        assert len(w.sources_changed) == 2
    await w.run(SOON)
    assert len(w.sources_changed) == 3
    # Others are asked for: how they are now is how they were read.
    w.sources = [tmp_path / "etc/sysconfig"]
    await w.run(600)
    assert len(w.sources_changed) == 3
    assert not w.kernel.calls


# Whatever the order


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["kernel", "initrd"]),
        st.sampled_from(["rename", "open", "close", "truncate", "remove", "touch", "dimm"]),
        st.sampled_from([0.0, 0.5, 3.0, QUIET + 1, 61.0]),
    ),
    max_size=12,
)


class Administrator:
    """Does things to the files, and knows who has them open."""

    def __init__(self, w: World) -> None:
        self.w = w
        self.open: dict[str, Any] = {}
        self.number = 0
        self.dimms = 0

    def data(self, which: str) -> bytes:
        self.number += 1
        mark = b"%d" % self.number
        return bzimage(mark) if which == "kernel" else cpio(mark * self.number)

    def do(self, which: str, what: str) -> None:
        path = (kernel if which == "kernel" else initrd)(self.w)
        if what == "rename":
            # What is open is another file now, which is nobody's business any more.
            self.close(which)
            rename_over(path, self.data(which))
        elif what == "open" and which not in self.open:
            self.open[which] = path.open("wb")
            self.open[which].write(self.data(which))
            self.open[which].flush()
        elif what == "close":
            self.close(which)
        elif what == "truncate" and which not in self.open and path.exists():
            path.write_bytes(path.read_bytes()[:-40])
        elif what == "remove":
            self.close(which)
            path.unlink(missing_ok=True)
        elif what == "touch" and path.exists():
            os.utime(path)
        elif what == "dimm":
            self.w.kernel.add_dimm(DIMM + 8 * self.dimms)
            self.dimms += 1

    def close(self, which: str) -> None:
        if which in self.open:
            self.open.pop(which).close()

    def finish(self) -> None:
        """In the end both are whole, and nobody has them open."""
        for which in ("kernel", "initrd"):
            self.do(which, "rename")


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=CHANGES, restart=st.integers(0, 12))
def test_in_any_order_nothing_unfinished_is_loaded_and_in_the_end_the_last_is(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[str, str, float]],
    restart: int,
) -> None:
    async def story(w: World) -> None:
        await armed(w)
        who = Administrator(w)
        finished = 0
        for number, (which, what, pause) in enumerate(changes):
            who.do(which, what)
            finished += what != "dimm"
            if number == restart:
                await w.start(w.configured(crash="ensure"))
            await w.run(pause)
        settled = len(w.kernel.calls)
        who.finish()
        await w.run(1200)
        assert [c.error for c in w.kernel.calls if c.error] == [], "ETXTBSY comes too late"
        assert len(w.kernel.calls) - settled <= 2, "at most what was planned, and the last"
        assert len(w.kernel.calls) <= finished + who.dimms + 1
        assert w.crash().state is State.CURRENT
        assert (w.crash().degraded, w.crash().next_step) == ("", "")
        loaded = os.fsencode(kernel(w).read_bytes()[1024:1040].rstrip(b"\0").decode())
        tail = w.kernel.path("proc/kcore").read_bytes()[-4096:]
        assert loaded in tail
        assert initrd(w).read_bytes()[-64:] in tail

    with pytest.MonkeyPatch.context() as monkeypatch:
        w = World(tmp_path_factory.mktemp("machine"), monkeypatch)
        try:
            asyncio.run(story(w))
        finally:
            while worlds.opened:
                worlds.opened.pop().close()
