# SPDX-License-Identifier: GPL-2.0-or-later
"""kexec_file_load(2): which flags are tried one after the other, and what is told of it."""

from __future__ import annotations

import errno
import os
import types
from pathlib import Path

import pytest

from kexecwatchd import loaders
from kexecwatchd.kernel import kexec_file as call
from kexecwatchd.kernel import kmsg
from kexecwatchd.kernel.kexec_file import (
    KEXEC_FILE_DEBUG,
    KEXEC_FILE_NO_CMA,
    KEXEC_FILE_ON_CRASH,
)
from kexecwatchd.loaders import Call, kexec_file
from kexecwatchd.model import ImageName, PlacedBy, Segment
from kexecwatchd.preflight import Files
from tests.unit.kernel.trees import populate

CRASH, REBOOT = ImageName.CRASH, ImageName.REBOOT
FILES = Files(7, 8, "1:2", "3:4", 4096)
BOTH = KEXEC_FILE_DEBUG | KEXEC_FILE_NO_CMA
SEGMENTS = (Segment(0x10000, 0x2000), Segment(0x3F000000, 0x1000))


class Kernel:
    """Answers each call with the next of `errors` (0: it loads) and logs what KEXEC_FILE_DEBUG
    makes it log. A call takes a second."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.errors: list[int | None] = []
        self.calls: list[tuple[int, int | None, str, int]] = []
        self.unloads: list[int] = []
        self.slept: list[float] = []
        self.now = 0.0
        clock = types.SimpleNamespace(monotonic=lambda: self.now, sleep=self.slept.append)
        monkeypatch.setattr(loaders, "time", clock)
        monkeypatch.setattr(call, "load", self._load)
        monkeypatch.setattr(call, "unload", self._unload)
        populate(root, {"dev/kmsg": ""})

    def _load(self, kernel_fd: int, initrd_fd: int | None, cmdline: str, flags: int) -> None:
        self.calls.append((kernel_fd, initrd_fd, cmdline, flags))
        self.now += 1
        if flags & KEXEC_FILE_DEBUG:
            self._log(1 if flags & KEXEC_FILE_ON_CRASH else 0)
        self._answer()

    def _unload(self, flags: int) -> None:
        self.unloads.append(flags)
        self._answer()

    def _answer(self) -> None:
        error = self.errors.pop(0) if self.errors else 0
        if error is None:
            raise OSError("of a kind that has no number")
        if error:
            raise OSError(error, os.strerror(error))

    def _log(self, kind: int) -> None:
        lines = [f"nr_segments = {len(SEGMENTS)}"]
        lines += [
            f"segment[{n}]: buf=0x0 bufsz=0x1 mem=0x{s.mem:x} memsz=0x{s.memsz:x}"
            for n, s in enumerate(SEGMENTS)
        ]
        lines.append(f"kexec_file_load: type:{kind}, start:0x1 head:0x2 flags:0x8")
        with (self.root / "dev/kmsg").open("a") as log:
            log.writelines(f"6,1,1,-;kexec_file: {line}\n" for line in lines)

    def load(self, optional: int, image: ImageName = REBOOT, again: bool = True) -> Call:
        return kexec_file.load(self.root, image, FILES, "quiet", optional=optional, again=again)

    def flags(self) -> list[int]:
        return [flags for *_, flags in self.calls]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path, monkeypatch)


def test_what_is_handed_to_the_kernel(kernel: Kernel) -> None:
    assert kernel.load(0) == Call(None, 1.0)
    assert kernel.load(0, CRASH) == Call(None, 1.0)
    assert kernel.calls == [(7, 8, "quiet", 0), (7, 8, "quiet", KEXEC_FILE_ON_CRASH)]


@pytest.mark.parametrize(("image", "flag"), [(REBOOT, 0), (CRASH, KEXEC_FILE_ON_CRASH)])
def test_where_it_went(kernel: Kernel, image: ImageName, flag: int) -> None:
    done = kernel.load(KEXEC_FILE_DEBUG, image)
    assert kernel.flags() == [KEXEC_FILE_DEBUG | flag]
    assert (done.error, done.seconds, done.refused_flags) == (None, 1.0, 0)
    assert done.placement is not None
    assert done.placement.segments == SEGMENTS
    assert done.placement.source is PlacedBy.LOG


EINVAL, ENOMEM = errno.EINVAL, errno.ENOMEM
LADDERS = [
    # (optional, errors, (flags tried, refused, placed))
    (BOTH, [0], ([BOTH], 0, True)),
    (BOTH, [EINVAL], ([BOTH, KEXEC_FILE_DEBUG], KEXEC_FILE_NO_CMA, True)),
    (BOTH, [EINVAL, EINVAL], ([BOTH, KEXEC_FILE_DEBUG, 0], BOTH, False)),
    (BOTH, [EINVAL] * 3, ([BOTH, KEXEC_FILE_DEBUG, 0], 0, False)),
    (BOTH, [ENOMEM], ([BOTH], 0, False)),
    # it came past the flags, so they were to blame for what was before
    (BOTH, [EINVAL, ENOMEM], ([BOTH, KEXEC_FILE_DEBUG], KEXEC_FILE_NO_CMA, False)),
    (BOTH, [EINVAL, EINVAL, ENOMEM], ([BOTH, KEXEC_FILE_DEBUG, 0], BOTH, False)),
    (KEXEC_FILE_NO_CMA, [EINVAL], ([KEXEC_FILE_NO_CMA, 0], KEXEC_FILE_NO_CMA, False)),
    (KEXEC_FILE_NO_CMA, [0], ([KEXEC_FILE_NO_CMA], 0, False)),
    (KEXEC_FILE_DEBUG, [EINVAL], ([KEXEC_FILE_DEBUG, 0], KEXEC_FILE_DEBUG, False)),
    (KEXEC_FILE_DEBUG, [ENOMEM], ([KEXEC_FILE_DEBUG], 0, False)),
    (0, [EINVAL], ([0], 0, False)),
]


@pytest.mark.parametrize(("optional", "errors", "expected"), LADDERS)
def test_flags_are_given_up_one_after_the_other(
    kernel: Kernel,
    optional: int,
    errors: list[int | None],
    expected: tuple[list[int], int, bool],
) -> None:
    flags, refused, placed = expected
    succeeds = len(flags) > len(errors) or errors == [0]
    kernel.errors = list(errors)
    done = kernel.load(optional)
    assert kernel.flags() == flags
    assert done.refused_flags == refused
    assert bool(done.placement) == placed
    assert (done.error is None) == succeeds
    assert done.seconds == len(flags), "each call counts"


def test_a_log_that_nobody_can_read_is_not_asked_for(kernel: Kernel) -> None:
    (kernel.root / "dev/kmsg").unlink()
    done = kernel.load(BOTH)
    assert kernel.flags() == [KEXEC_FILE_NO_CMA]
    assert (done.error, done.placement, done.refused_flags) == (None, None, 0)


def test_lines_of_before_tell_nothing(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel._log(0)
    monkeypatch.setattr(kernel, "_log", lambda kind: None)
    assert kernel.load(KEXEC_FILE_DEBUG).placement is None


def test_a_log_with_lines_lost_tells_nothing(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kmsg.KernelLog.since_mark
    monkeypatch.setattr(kmsg.KernelLog, "since_mark", lambda log: (whole(log)[0], False))
    done = kernel.load(KEXEC_FILE_DEBUG)
    assert (done.error, done.placement) == (None, None)


@pytest.mark.parametrize("image", ImageName)
def test_the_other_images_lines_are_not_this_ones(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, image: ImageName
) -> None:
    log = kernel._log
    monkeypatch.setattr(kernel, "_log", lambda kind: log(1 - kind))
    assert kernel.load(KEXEC_FILE_DEBUG, image).placement is None


def test_the_log_is_closed(kernel: Kernel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    kernel.load(KEXEC_FILE_DEBUG)
    kernel.errors = [ENOMEM]
    kernel.load(KEXEC_FILE_DEBUG)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("number", "blames"),
    [
        (errno.ENOMEM, False),
        (errno.EINTR, False),
        (errno.EBUSY, False),
        (errno.ETXTBSY, False),
        (errno.EINVAL, True),
        (errno.ENOEXEC, True),
        (errno.EKEYREJECTED, True),
        (errno.EADDRNOTAVAIL, True),
    ],
)
def test_a_failure_is_explained(kernel: Kernel, number: int, blames: bool) -> None:
    kernel.errors = [number]
    error = kernel.load(0, CRASH, again=False).error
    assert error is not None
    assert (error.number, error.blames_files) == (number, blames)
    name = errno.errorcode[number]
    assert str(error) == f"kexec_file_load: {name}: {call.explain(number, CRASH)}"


@pytest.mark.parametrize("number", [None, 4000])
def test_an_error_without_a_name_is_explained_too(kernel: Kernel, number: int | None) -> None:
    kernel.errors = [number]
    error = kernel.load(0).error
    assert error is not None
    assert error.number == (number or 0)
    assert str(error).startswith(f"kexec_file_load: {number or 0}: ")


def test_a_lock_that_is_busy_is_waited_for_unless_each_try_counts(kernel: Kernel) -> None:
    kernel.errors = [errno.EBUSY, errno.EBUSY]
    done = kernel.load(0)
    assert (done.error, done.seconds, len(kernel.calls)) == (None, 1.0, 3)
    assert kernel.slept == list(kexec_file.BUSY_PAUSES[:2])
    kernel.errors = [errno.EBUSY]
    error = kernel.load(BOTH, again=False).error
    assert error is not None
    assert error.number == errno.EBUSY
    assert len(kernel.calls) == 4


@pytest.mark.parametrize(("image", "flags"), [(REBOOT, 0), (CRASH, KEXEC_FILE_ON_CRASH)])
def test_an_unload(kernel: Kernel, image: ImageName, flags: int) -> None:
    kernel.errors = [errno.EBUSY]
    assert kexec_file.unload(image).error is None
    assert kernel.unloads == [flags, flags]
    kernel.errors = [errno.EPERM]
    error = kexec_file.unload(image).error
    assert error is not None
    assert error.number == errno.EPERM
    assert str(error).startswith("kexec_file_load: EPERM: ")
