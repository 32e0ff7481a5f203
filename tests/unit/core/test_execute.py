# SPDX-License-Identifier: GPL-2.0-or-later
"""One load or unload: what is called, with which flags, and what is told of it."""

from __future__ import annotations

import errno
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd import loaders
from kexecwatchd.execute import CONFIGURED, LAST_GOOD, Executor, Outcome
from kexecwatchd.kernel import kexec_file
from kexecwatchd.ledger import LastGood, Pair
from kexecwatchd.loaders import kexec_tools
from kexecwatchd.loaders.kexec_file import BUSY_PAUSES
from kexecwatchd.loaders.kexec_tools import Finished
from kexecwatchd.model import ImageName, Observation, PlacedBy
from kexecwatchd.ranges import RangeSet
from tests.fake_kernel import CMDLINE, CRASH_REGION, FakeKernel, bzimage
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
        debug: bool = True,
        **place: Any,
    ) -> Outcome:
        return self.executor.load(image, self.pair, kept, look or seen(), debug, **place)

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


def test_a_kernel_without_the_debug_flag_costs_no_image(machine: Making) -> None:
    m = machine(debug=False)
    m.load(debug=False)
    outcome = m.load()
    assert (outcome.succeeded, outcome.debug_refused, outcome.placement) == (True, True, None)
    assert m.errors() == [0, errno.EINVAL, 0]


def test_an_einval_for_another_reason_does_not_cost_the_flag(machine: Making) -> None:
    m = machine()
    m.kernel.errors = [errno.EINVAL, errno.EINVAL]
    outcome = m.load()
    assert (outcome.succeeded, outcome.debug_refused) == (False, False)
    assert "EINVAL" in outcome.error


def test_without_the_flag_nothing_is_read_from_the_log(machine: Making) -> None:
    m = machine()
    m.kernel.path("dev/kmsg").unlink()
    outcome = m.load(debug=False)
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
    assert "EKEYREJECTED" in outcome.degraded


def test_both_failing_tells_both(machine: Making) -> None:
    m = machine()
    kept = m.load().kept
    m.kernel.path("boot/vmlinuz").write_bytes(b"")
    m.kernel.errors = [errno.ENOMEM]
    outcome = m.load(kept=kept)
    assert not outcome.succeeded
    assert outcome.called
    assert "is empty; the last good files: kexec_file_load: ENOMEM" in outcome.error


def test_a_refusal_calls_nothing(machine: Making) -> None:
    m = machine()
    m.kernel.path("boot/vmlinuz").unlink()
    outcome = m.load()
    assert (outcome.succeeded, outcome.called, outcome.kept) == (False, False, None)
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
    assert m.executor.unload(REBOOT) == ""
    assert not m.kernel.loaded("reboot")
    m.kernel.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    assert "EPERM" in m.executor.unload(REBOOT)


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
    outcome = m.load(REBOOT, below=BELOW)
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
    outcome = m.load(REBOOT, look=seen(limit_reboot=2), below=BELOW)
    assert "EBUSY" in outcome.error
    assert not outcome.called
    assert m.load(REBOOT, look=seen(limit_reboot=1), below=BELOW).succeeded
    assert "EPERM" in m.load(REBOOT, look=seen(limit_reboot=1), below=BELOW).error


def test_the_next_kernel_is_not_told_of_hot_added_memory(machine: Making) -> None:
    m = machine(tools=True)
    m.pair = m.pair.model_copy(update={"cmdline": "x" * 1990})
    hidden = RangeSet.of((4 << 30, 5 << 30))
    assert m.load(REBOOT, below=BELOW).succeeded
    assert "command line takes" in m.load(REBOOT, below=BELOW, hidden=hidden).error
    m.pair = m.pair.model_copy(update={"cmdline": CMDLINE})
    assert m.load(REBOOT, below=BELOW, hidden=hidden).succeeded
    assert m.kernel.calls[-1].cmdline == f"{CMDLINE} memmap=0x40000000%0x100000000-1"


def test_no_program_no_call(machine: Making) -> None:
    m = machine()
    outcome = m.load(REBOOT, below=BELOW)
    assert (outcome.succeeded, outcome.called) == (False, False)
    assert "install kexec-tools" in outcome.error
    assert not m.kernel.calls


def test_no_room_below_an_address_is_not_held_against_the_files(machine: Making) -> None:
    m = machine(tools=True)
    outcome = m.load(REBOOT, below=1 << 20)
    assert not outcome.succeeded
    assert "no hole below the limit" in outcome.error
    assert m.load(REBOOT, below=BELOW).succeeded


def test_a_refusal_of_one_loader_says_nothing_about_the_other(machine: Making) -> None:
    m = machine(tools=True)
    m.kernel.errors = [errno.EKEYREJECTED]
    assert "EKEYREJECTED" in m.load(REBOOT).error
    assert m.load(REBOOT, below=BELOW).succeeded
    assert "not tried again" in m.load(REBOOT).error
    assert m.load(REBOOT, below=BELOW).succeeded


def test_files_that_kexec_tools_cannot_use_are_not_tried_again(
    machine: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = machine(tools=True)
    kept = m.load(REBOOT, below=BELOW).kept
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    monkeypatch.setattr(kexec_tools, "run", lambda *_: Finished(255, "Cannot load"))
    assert "Cannot load" in m.load(REBOOT, below=BELOW).error
    monkeypatch.setattr(kexec_tools, "run", m.kernel.load_with_tools)
    outcome = m.load(REBOOT, kept=kept, below=BELOW)
    assert (outcome.succeeded, outcome.source) == (True, LAST_GOOD)
    assert "not tried again" in outcome.degraded


def test_after_a_hang_other_files_are_not_tried(
    machine: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = machine(tools=True)
    kept = m.load(REBOOT, below=BELOW).kept
    m.kernel.path("boot/vmlinuz").write_bytes(bzimage(b"two"))
    runs: list[int] = []

    def hang(program: int, *_: object) -> Finished:
        runs.append(program)
        return Finished(None, "")

    monkeypatch.setattr(kexec_tools, "run", hang)
    assert "hung" in m.load(REBOOT, kept=kept, below=BELOW).error
    assert len(runs) == 1
