# SPDX-License-Identifier: GPL-2.0-or-later
"""One load or unload: what is called, with which flags, and what is told of it."""

from __future__ import annotations

import errno
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd import loaders
from kexecwatchd.execute import CONFIGURED, LAST_GOOD, Executor, Outcome
from kexecwatchd.kernel import kexec_file
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_DEBUG, KEXEC_FILE_NO_CMA
from kexecwatchd.ledger import LastGood, Pair
from kexecwatchd.loaders import kexec_tools
from kexecwatchd.loaders.kexec_file import BUSY_PAUSES
from kexecwatchd.loaders.kexec_tools import Finished
from kexecwatchd.model import Detour, ImageName, Load, Observation, PlacedBy
from kexecwatchd.ranges import Range, RangeSet
from tests.fake_kernel import CMDLINE, CRASH_REGION, FakeKernel, bzimage, cpio
from tests.unit.core.cases import CRASH, REBOOT, seen


class Machine:
    """A fake kernel, an executor on it, and a clock that a load moves by a second."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.kernel = FakeKernel(root, while_loading=self._while_loading, **options)
        self.executor = Executor(root, root / "copies")
        self.now = 100.0
        self.slept: list[float] = []
        clock = types.SimpleNamespace(monotonic=lambda: self.now, sleep=self.slept.append)
        monkeypatch.setattr(loaders, "time", clock)
        monkeypatch.setattr(kexec_file, "load", self.kernel.load)
        monkeypatch.setattr(kexec_file, "unload", self.kernel.unload)
        monkeypatch.setattr(kexec_tools, "run", self.kernel.load_with_tools)
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        self.pair = Pair(
            kernel=str(self.kernel.path("boot/vmlinuz")),
            initrd=str(self.kernel.path("boot/initrd.img")),
            cmdline=CMDLINE,
        )

    def _while_loading(self, image: str) -> None:
        self.now += 1

    def load(
        self,
        image: ImageName = CRASH,
        kept: LastGood | None = None,
        look: Observation | None = None,
        refused: int = 0,
        **place: Any,
    ) -> Outcome:
        wanted = Load("it is wanted", **place)
        return self.executor.load(
            image, self.pair, kept, look or seen(), load=wanted, refused_flags=refused
        )

    def errors(self) -> list[int]:
        return [call.error for call in self.kernel.calls]


Making = Callable[..., Machine]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    return lambda **options: Machine(tmp_path, monkeypatch, **options)


def test_a_crash_image_and_where_it_went(machine: Making) -> None:
    m = machine()
    outcome = m.load()
    assert (outcome.succeeded, outcome.seconds, outcome.source) == (True, 1, CONFIGURED)
    assert (outcome.error, outcome.degraded, outcome.keep_error) == ("", "", "")
    assert outcome.placement is not None
    assert outcome.placement.elfcorehdr == CRASH_REGION.start
    assert m.kernel.loaded("crash")
    assert not m.kernel.loaded("reboot")


def test_a_reboot_image_and_where_it_went(machine: Making) -> None:
    m = machine()
    outcome = m.load(REBOOT)
    assert outcome.placement is not None
    assert [s.range for s in outcome.placement.segments] == list(m.kernel.segments)
    assert not m.kernel.loaded("crash")


def test_the_initrd_goes_along_and_only_one_that_is_named(
    machine: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = machine()
    handed: list[bytes | None] = []

    def load(kernel_fd: int, initrd_fd: int | None, cmdline: str, flags: int) -> None:
        handed.append(None if initrd_fd is None else os.pread(initrd_fd, 1 << 20, 0))

    monkeypatch.setattr(kexec_file, "load", load)
    assert m.load(REBOOT).succeeded
    initrd = m.kernel.path("boot/initrd.img").read_bytes()
    m.kernel.path("boot/initrd.img").unlink()
    outcome = m.load(REBOOT)
    assert not outcome.succeeded
    assert "initrd.img" in outcome.error
    m.pair = m.pair.model_copy(update={"initrd": ""})
    assert m.load(REBOOT).succeeded
    assert handed == [initrd, None]


def test_a_kernel_without_the_debug_flag_costs_no_image(machine: Making) -> None:
    m = machine(debug=False)
    m.load(refused=KEXEC_FILE_DEBUG)
    outcome = m.load()
    assert (outcome.succeeded, outcome.placement) == (True, None)
    assert outcome.refused_flags == KEXEC_FILE_DEBUG
    assert m.errors() == [0, errno.EINVAL, 0]


def test_an_einval_for_another_reason_does_not_cost_the_flag(machine: Making) -> None:
    m = machine()
    m.kernel.errors = [errno.EINVAL, errno.EINVAL]
    outcome = m.load()
    assert (outcome.succeeded, outcome.refused_flags) == (False, 0)
    assert "EINVAL" in outcome.error


CMA = Range(64 << 20, 128 << 20)


def test_cma_is_used_only_when_it_is_asked_for(machine: Making) -> None:
    m = machine(cma=CMA)
    look = seen(cma=True)
    assert m.load(REBOOT, look=look).refused_flags == 0
    assert not RangeSet([CMA]) & m.kernel.segments
    outcome = m.load(REBOOT, look=look, cma=True)
    assert RangeSet([CMA]).covers(m.kernel.segments)
    assert outcome.placement is not None
    (segment,) = outcome.placement.segments
    assert (segment.name, segment.alignment) == ("kernel", 0x200000)


@pytest.mark.parametrize("debug", [True, False])
def test_a_kernel_that_knows_no_cma_flag_is_asked_without_it(machine: Making, debug: bool) -> None:
    m = machine(debug=debug)
    outcome = m.load(REBOOT, look=seen(cma=True))
    expected = KEXEC_FILE_NO_CMA | (0 if debug else KEXEC_FILE_DEBUG)
    assert (outcome.succeeded, outcome.refused_flags) == (True, expected)
    assert m.errors() == [errno.EINVAL] * (1 if debug else 2) + [0]
    assert bool(outcome.placement) == debug
    m.kernel.calls.clear()
    assert m.load(REBOOT, look=seen(cma=True), refused=outcome.refused_flags).succeeded
    assert m.errors() == [0]


def test_a_crash_image_has_nothing_to_do_with_cma(machine: Making) -> None:
    m = machine()
    assert m.load(CRASH, look=seen(cma=True)).succeeded
    assert m.errors() == [0]


def test_without_the_flag_nothing_is_read_from_the_log(machine: Making) -> None:
    m = machine()
    m.kernel.path("dev/kmsg").unlink()
    outcome = m.load(refused=KEXEC_FILE_DEBUG)
    assert (outcome.succeeded, outcome.placement) == (True, None)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_log_that_cannot_be_read_costs_the_placement_alone(
    machine: Making, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    m = machine()
    if when == "before":
        m.kernel.path("dev/kmsg").unlink()
        m.kernel.log = lambda text: None  # type: ignore[method-assign]
    else:

        def fail(log: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("kexecwatchd.kernel.kmsg.KernelLog.since_mark", fail)
    outcome = m.load()
    assert (outcome.succeeded, outcome.placement) == (True, None)


def test_a_placement_of_the_other_image_is_not_ours(machine: Making) -> None:
    m = machine()
    m.kernel._log_segments = (  # type: ignore[method-assign]
        lambda segments, kind: FakeKernel._log_segments(m.kernel, segments, 1 - kind)
    )
    outcome = m.load()
    assert (outcome.succeeded, outcome.placement) == (True, None)


def test_an_older_placement_is_not_this_ones(machine: Making) -> None:
    m = machine()
    m.load()
    m.kernel.log = lambda text: None  # type: ignore[method-assign]
    assert m.load().placement is None


def test_the_last_good_pair_follows_a_refused_one(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.kernel.path("boot/vmlinuz").write_bytes(b"")
    outcome = m.load(kept=kept)
    assert (outcome.succeeded, outcome.source) == (True, LAST_GOOD)
    assert "vmlinuz is empty" in outcome.degraded
    assert outcome.kept == kept
    assert m.errors() == [0, 0]


def test_the_last_good_pair_keeps_its_own_command_line(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.pair = m.pair.model_copy(update={"cmdline": "x" * 5000})
    assert m.load(kept=kept).succeeded
    assert m.kernel.calls[-1].cmdline == CMDLINE


def test_the_last_good_pair_follows_a_call_that_failed(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    m.kernel.errors = [errno.EKEYREJECTED]
    outcome = m.load(kept=kept)
    assert (outcome.succeeded, outcome.seconds) == (True, 2)
    assert outcome.number == errno.EKEYREJECTED
    assert "EKEYREJECTED" in outcome.degraded


def test_both_failing_tells_both(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.kernel.path("boot/vmlinuz").write_bytes(b"")
    m.kernel.errors = [errno.ENOMEM]
    outcome = m.load(kept=kept)
    assert not outcome.succeeded
    assert (outcome.called, outcome.number) == (True, errno.ENOMEM)
    assert "is empty; the last good files: kexec_file_load: ENOMEM" in outcome.error


def test_a_refusal_calls_nothing(machine: Making) -> None:
    m = machine()
    m.kernel.path("boot/vmlinuz").unlink()
    outcome = m.load()
    assert (outcome.succeeded, outcome.called, outcome.kept) == (False, False, None)
    assert (outcome.source, outcome.degraded, outcome.hopeless) == ("", "", False)
    assert outcome.number == 0
    assert not m.kernel.calls


def test_files_that_cannot_be_kept_are_loaded_all_the_same(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    assert kept is not None
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    (m.kernel.root / "copies").rename(m.kernel.root / "elsewhere")
    (m.kernel.root / "copies").write_text("in the way")
    outcome = m.load(kept=kept)
    assert outcome.succeeded
    assert "no copy" in outcome.keep_error
    assert outcome.kept == kept


def test_a_busy_lock_is_tried_again_soon_and_briefly(machine: Making) -> None:
    m = machine()
    m.kernel.busy = 3
    assert m.load().succeeded
    assert m.slept == list(BUSY_PAUSES[:3])


def test_a_lock_that_stays_busy_is_nobodys_fault(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.kernel.busy = 1000
    outcome = m.load(kept=kept)
    assert not outcome.succeeded
    assert not outcome.called, "the machine was armed all the time"
    assert "EBUSY" in outcome.error
    assert not outcome.hopeless
    assert m.kernel.loaded("crash")
    assert len(m.slept) == len(BUSY_PAUSES)
    assert 0.5 < sum(m.slept) < 5


@pytest.mark.parametrize("image", [CRASH, REBOOT])
def test_under_a_limit_a_busy_lock_is_not_tried_again(machine: Making, image: ImageName) -> None:
    m = machine()
    m.kernel.busy = 1
    outcome = m.load(image, look=seen(limit_panic=5, limit_reboot=5))
    assert not outcome.succeeded
    assert len(m.kernel.calls) == 1


def test_an_unload(machine: Making) -> None:
    m = machine()
    m.load(REBOOT)
    m.kernel.busy = 2
    assert m.executor.unload(REBOOT).succeeded
    assert not m.kernel.loaded("reboot")
    m.kernel.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    outcome = m.executor.unload(REBOOT)
    assert (outcome.succeeded, outcome.number) == (False, errno.EPERM)
    assert "EPERM" in outcome.error


def test_what_the_kernel_refused_is_not_tried_again_at_the_images_expense(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    m.kernel.errors = [errno.EKEYREJECTED]
    m.load(kept=kept)
    calls = len(m.kernel.calls)
    again = m.load(kept=kept)
    assert (again.succeeded, again.source, len(m.kernel.calls)) == (True, LAST_GOOD, calls + 1)
    assert "not tried again" in again.degraded
    m.executor.forget_failures()
    assert m.load(kept=kept).source == CONFIGURED
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"three"))
    assert m.load(kept=kept).source == CONFIGURED


def test_a_refusal_is_held_against_these_very_files(machine: Making) -> None:
    m = machine()
    m.load()
    kernel, initrd = m.kernel.path("boot/vmlinuz"), m.kernel.path("boot/initrd.img")

    def refused() -> None:
        m.kernel.errors = [errno.EKEYREJECTED]
        assert not m.load().succeeded
        assert "not tried again" in m.load().error

    refused()
    assert m.load(REBOOT).succeeded
    kernel.write_bytes(bzimage(b"two"))
    assert m.load().succeeded
    refused()
    initrd.write_bytes(cpio(b"another"))
    assert m.load().succeeded
    refused()
    m.pair = m.pair.model_copy(update={"cmdline": "debug"})
    assert m.load().succeeded


def test_without_an_image_to_lose_everything_is_tried_again(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    m.kernel.errors = [errno.EPERM, errno.EPERM]
    assert not m.load(kept=kept).succeeded
    assert m.load(kept=kept, look=seen(crash=False)).source == CONFIGURED


def test_a_want_of_memory_is_not_held_against_the_files(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.kernel.errors = [errno.ENOMEM]
    assert m.load(kept=kept).source == LAST_GOOD
    assert m.load(kept=kept).source == CONFIGURED


BELOW = 512 << 20


def test_below_an_address_kexec_tools_load(machine: Making) -> None:
    m = machine(tools=True)
    outcome = m.load(REBOOT, detour=Detour(BELOW))
    assert (outcome.succeeded, outcome.seconds, outcome.source) == (True, 1, CONFIGURED)
    assert outcome.placement is not None
    assert outcome.placement.source is PlacedBy.LOADER
    assert outcome.placement.ranges == m.kernel.segments
    assert max(m.kernel.segments).end == BELOW
    assert outcome.kept is not None
    assert [call.tools for call in m.kernel.calls] == [True]
    m.load(REBOOT)
    assert [call.tools for call in m.kernel.calls] == [True, False]


def test_each_load_below_an_address_uses_up_the_limit(machine: Making) -> None:
    m = machine(tools=True)
    m.kernel.write("proc/sys/kernel/kexec_load_limit_reboot", "2\n")
    m.kernel.busy = 1
    outcome = m.load(REBOOT, look=seen(limit_reboot=2), detour=Detour(BELOW))
    assert "EBUSY" in outcome.error
    assert not outcome.hopeless
    assert not outcome.called
    assert m.load(REBOOT, look=seen(limit_reboot=1), detour=Detour(BELOW)).succeeded
    assert "EPERM" in m.load(REBOOT, look=seen(limit_reboot=1), detour=Detour(BELOW)).error


def test_the_next_kernel_is_not_told_of_hot_added_memory(machine: Making) -> None:
    m = machine(tools=True)
    m.pair = m.pair.model_copy(update={"cmdline": "x" * 1990})
    hidden = RangeSet.of((4 << 30, 5 << 30))
    assert m.load(REBOOT, detour=Detour(BELOW)).succeeded
    assert "command line takes" in m.load(REBOOT, detour=Detour(BELOW, hidden)).error
    m.pair = m.pair.model_copy(update={"cmdline": CMDLINE})
    assert m.load(REBOOT, detour=Detour(BELOW, hidden)).succeeded
    assert m.kernel.calls[-1].cmdline == f"{CMDLINE} memmap=0x40000000%0x100000000-1"


def test_no_program_no_call(machine: Making) -> None:
    m = machine()
    outcome = m.load(REBOOT, detour=Detour(BELOW))
    assert (outcome.succeeded, outcome.called) == (False, False)
    assert "install kexec-tools" in outcome.error
    assert not m.kernel.calls


def test_no_room_below_an_address_is_not_held_against_the_files(machine: Making) -> None:
    m = machine(tools=True)
    outcome = m.load(REBOOT, detour=Detour(1 << 20))
    assert not outcome.succeeded
    assert "no hole below the limit" in outcome.error
    assert m.load(REBOOT, detour=Detour(BELOW)).succeeded


def test_a_refusal_of_one_loader_says_nothing_about_the_other(machine: Making) -> None:
    m = machine(tools=True)
    m.kernel.errors = [errno.EKEYREJECTED]
    assert "EKEYREJECTED" in m.load(REBOOT).error
    assert m.load(REBOOT, detour=Detour(BELOW)).succeeded
    assert "not tried again" in m.load(REBOOT).error
    assert m.load(REBOOT, detour=Detour(BELOW)).succeeded


def test_files_that_kexec_tools_cannot_use_are_not_tried_again(
    machine: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = machine(tools=True)
    kept = m.load(REBOOT, detour=Detour(BELOW)).kept
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    monkeypatch.setattr(kexec_tools, "run", lambda *_: Finished(255, "Cannot load"))
    assert "Cannot load" in m.load(REBOOT, detour=Detour(BELOW)).error
    monkeypatch.setattr(kexec_tools, "run", m.kernel.load_with_tools)
    outcome = m.load(REBOOT, kept=kept, detour=Detour(BELOW))
    assert (outcome.succeeded, outcome.source) == (True, LAST_GOOD)
    assert "not tried again" in outcome.degraded


def test_after_a_hang_other_files_are_not_tried(
    machine: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = machine(tools=True)
    kept = m.load(REBOOT, detour=Detour(BELOW)).kept
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    runs: list[int] = []

    def hang(program: int, *_: object) -> Finished:
        runs.append(program)
        return Finished(None, "")

    monkeypatch.setattr(kexec_tools, "run", hang)
    assert "hung" in m.load(REBOOT, kept=kept, detour=Detour(BELOW)).error
    assert len(runs) == 1
