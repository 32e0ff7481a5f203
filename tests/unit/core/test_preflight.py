# SPDX-License-Identifier: GPL-2.0-or-later
"""What is refused before the kernel is asked, since asking costs the image that was there."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from kexecwatchd.kernel import kexec_file, kexec_state
from kexecwatchd.model import (
    ImageFiles,
    ImageName,
    MemoryMap,
    PlacedBy,
    Placement,
    Segment,
)
from kexecwatchd.preflight import Refused, RefusedForNow, checked
from kexecwatchd.ranges import RangeSet
from tests.fake_kernel import CMDLINE, INIT_SIZE, FakeKernel, bzimage, cpio
from tests.unit.core.cases import CRASH, REBOOT, gib, seen
from tests.unit.kernel.test_bootimage import with_pe


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return FakeKernel(tmp_path)


def paths(kernel: FakeKernel, cmdline: str = CMDLINE) -> ImageFiles:
    return ImageFiles(kernel.path("boot/vmlinuz"), kernel.path("boot/initrd.img"), cmdline)


def refusal(kernel: FakeKernel, **changes: str) -> str:
    """Why the pair is refused, "" when it is not."""
    try:
        with checked(paths(kernel, **changes), CRASH, seen(), kernel.root):
            return ""
    except Refused as reason:
        return str(reason)


def test_a_good_pair_is_open_until_the_end(kernel: FakeKernel) -> None:
    with checked(paths(kernel), CRASH, seen(), kernel.root) as files:
        assert os.pread(files.kernel_fd, 1 << 20, 0) == bzimage()
        assert files.initrd_fd is not None
        assert os.pread(files.initrd_fd, 1 << 20, 0) == cpio()
        assert files.kernel_signature != files.initrd_signature != ""
    for fd in (files.kernel_fd, files.initrd_fd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_without_an_initrd(kernel: FakeKernel) -> None:
    alone = ImageFiles(kernel.path("boot/vmlinuz"), None, CMDLINE)
    with checked(alone, CRASH, seen(), kernel.root) as files:
        assert (files.initrd_fd, files.initrd_signature) == (None, "")


@pytest.mark.parametrize("name", ["vmlinuz", "initrd.img"])
def test_signatures_follow_the_files(kernel: FakeKernel, name: str) -> None:
    def signatures() -> tuple[str, str]:
        with checked(paths(kernel), CRASH, seen(), kernel.root) as files:
            return files.kernel_signature, files.initrd_signature

    before = signatures()
    assert signatures() == before
    path = kernel.path(f"boot/{name}")
    path.with_suffix(".new").write_bytes(path.read_bytes())
    os.replace(path.with_suffix(".new"), path)
    assert [a == b for a, b in zip(signatures(), before, strict=True)] == [
        name != "vmlinuz",
        name != "initrd.img",
    ]


@pytest.mark.parametrize("name", ["vmlinuz", "initrd.img"])
def test_a_file_that_somebody_writes_to_is_refused(kernel: FakeKernel, name: str) -> None:
    with kernel.path(f"boot/{name}").open("ab"):
        assert f"{name} is being written" in refusal(kernel)
    assert refusal(kernel) == ""


def be_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def be_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def be_a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (Path.unlink, "does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "truncated"),
    "something else": (lambda path: path.write_bytes(b"\0\1" * 2000), ""),
    "fifo": (be_a_fifo, "not a regular file"),
    "directory": (be_a_directory, "not a regular file"),
    "writable for all": (lambda path: path.chmod(0o666), "chmod go-w"),
    "writable for the group": (lambda path: path.chmod(0o664), "chmod go-w"),
    "a dangling link": (be_a_dangling_link, "does not exist"),
}


@pytest.mark.parametrize("name", ["vmlinuz", "initrd.img"])
@pytest.mark.parametrize("how", BAD_FILES)
def test_a_bad_file_is_refused_by_name(kernel: FakeKernel, name: str, how: str) -> None:
    spoil, words = BAD_FILES[how]
    spoil(kernel.path(f"boot/{name}"))
    told = refusal(kernel)
    assert name in told
    assert words in told


def test_a_file_of_another_user_is_refused(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: only root gives files away")
    os.chown(kernel.path("boot/vmlinuz"), 1234, 0)
    assert "belongs to uid 1234" in refusal(kernel)


def test_a_link_to_a_good_file_is_good(kernel: FakeKernel) -> None:
    """/vmlinuz and /boot/vmlinuz are links on most machines."""
    path = kernel.path("boot/vmlinuz")
    path.rename(path.with_name("vmlinuz-6.12"))
    path.symlink_to("vmlinuz-6.12")
    assert refusal(kernel) == ""


@pytest.mark.parametrize(("length", "good"), [(2047 - 30 - 1, True), (2047 - 30, False)])
def test_the_command_line_has_room_for_elfcorehdr(
    kernel: FakeKernel, length: int, good: bool
) -> None:
    """cmdline_size counts the final NUL, and the kernel adds 30 bytes."""
    told = refusal(kernel, cmdline="x" * length)
    assert (told == "") == good
    assert good or "the command line takes 2018 bytes" in told


def test_the_length_is_that_in_bytes(kernel: FakeKernel) -> None:
    assert "2019 bytes" in refusal(kernel, cmdline="ä" * 1009)


def la57(kernel: FakeKernel) -> None:
    kernel.write("proc/cpuinfo", "flags\t\t: fpu la57 vme\n\n")


def test_a_kernel_without_five_level_paging_where_it_is_on(kernel: FakeKernel) -> None:
    old = bytearray(bzimage())
    struct.pack_into("<H", old, 0x236, 0x3)
    kernel.path("boot/vmlinuz").write_bytes(old)
    assert refusal(kernel) == ""
    la57(kernel)
    assert "5-level paging" in refusal(kernel)
    kernel.path("boot/vmlinuz").write_bytes(bzimage())
    assert refusal(kernel) == ""


TOP = 64 << 40


@pytest.mark.parametrize("image", [CRASH, REBOOT])
@pytest.mark.parametrize(
    ("xloadflags", "cmdline", "end", "good"),
    [
        (0x6B, "quiet", TOP + (1 << 20), True),
        (0x6B, "quiet no5lvl", TOP + (1 << 20), False),
        (0x6B, "quiet no5lvl", TOP, True),
        (0x2B, "quiet", TOP + (1 << 20), False),
        (0x2B, "quiet", TOP, True),
    ],
)
def test_a_kernel_that_4_level_paging_does_not_reach(
    kernel: FakeKernel, image: ImageName, xloadflags: int, cmdline: str, *, end: int, good: bool
) -> None:
    """In a place that ends at `end`; the kernel itself looks at neither."""
    content = bytearray(bzimage())
    struct.pack_into("<H", content, 0x236, xloadflags)
    kernel.path("boot/vmlinuz").write_bytes(content)
    place = Segment(end - (1 << 30), 1 << 30)
    memory = MemoryMap(RangeSet([place.range]), crash_regions=RangeSet([place.range]))
    look = seen(map=memory, forecast=Placement((place,), PlacedBy.PREDICTION))
    with checked(paths(kernel, cmdline), image, look, kernel.root):
        pass  # without 5-level paging all memory is in reach
    la57(kernel)
    with (
        nullcontext() if good else pytest.raises(Refused, match="4-level paging"),
        checked(paths(kernel, cmdline), image, look, kernel.root),
    ):
        pass


@pytest.mark.parametrize(
    ("lockdown", "good"),
    [
        ("[none] integrity confidentiality", True),
        ("none [integrity] confidentiality", False),
        ("none integrity [confidentiality]", False),
    ],
)
def test_an_unsigned_kernel_under_lockdown(kernel: FakeKernel, lockdown: str, good: bool) -> None:
    kernel.path("sys/kernel/security").mkdir()
    kernel.write("sys/kernel/security/lockdown", lockdown + "\n")
    assert ("lockdown=" in refusal(kernel)) != good


TAKEN = 0


class TriedOut:
    """kexec_file.try_out() on a kernel that answers with `number`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tried = 0

    def __call__(self, kernel_fd: int) -> None:
        self.tried += 1
        if self.number:
            raise OSError(self.number, "no")


def locked_down(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, answer: int, signed: bool = True
) -> TriedOut:
    tried = TriedOut(answer)
    monkeypatch.setattr(kexec_file, "try_out", tried)
    kernel.path("sys/kernel/security").mkdir()
    kernel.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    kernel.path("boot/vmlinuz").write_bytes(with_pe(bzimage(), signed=signed))
    return tried


@pytest.mark.parametrize("number", [errno.EPERM, errno.EKEYREJECTED, errno.ENOPKG, errno.EACCES])
def test_a_signature_that_the_kernel_does_not_take(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    locked_down(kernel, monkeypatch, number)
    said = refusal(kernel)
    assert "vmlinuz" in said
    assert (errno.errorcode[number] if number != errno.EPERM else "lockdown=integrity") in said


@pytest.mark.parametrize(("number", "passes"), [(errno.ENOMEM, True), (errno.EKEYREJECTED, False)])
def test_what_the_kernel_could_not_tell_this_time_may_pass(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, number: int, passes: bool
) -> None:
    locked_down(kernel, monkeypatch, number)
    with pytest.raises(Refused) as caught, checked(paths(kernel), CRASH, seen(), kernel.root):
        pass
    assert isinstance(caught.value, RefusedForNow) == passes


@pytest.mark.parametrize("number", [TAKEN, errno.EBUSY])
def test_a_signature_that_it_takes(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    tried = locked_down(kernel, monkeypatch, number)
    assert refusal(kernel) == ""
    assert tried.tried == 1


def test_it_is_not_asked_where_each_try_counts(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try counts, or it could only say that nothing may be loaded."""
    tried = locked_down(kernel, monkeypatch, errno.EPERM)
    for look in (seen(limit_reboot=3), seen(load_disabled=True)):
        with checked(paths(kernel), CRASH, look, kernel.root):
            pass
    assert tried.tried == 0


@pytest.mark.parametrize("forced", [True, False])
def test_it_is_asked_where_the_kernel_insists_on_signatures(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    tried = TriedOut(errno.ENODATA)
    monkeypatch.setattr(kexec_file, "try_out", tried)
    release = kexec_state.kernel_release(kernel.root)
    kernel.write(f"boot/config-{release}", "CONFIG_KEXEC_SIG_FORCE=y\n" if forced else "")
    assert ("ENODATA" in refusal(kernel)) == forced
    assert tried.tried == forced


def test_under_lockdown_ima_may_vouch_for_it(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kexec_file, "try_out", TriedOut(TAKEN))
    kernel.path("sys/kernel/security/ima").mkdir(parents=True)
    kernel.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    kernel.write("sys/kernel/security/ima/policy", "appraise func=KEXEC_KERNEL_CHECK\n")
    release = kexec_state.kernel_release(kernel.root)
    kernel.write(f"boot/config-{release}", "CONFIG_IMA_APPRAISE=y\n")
    with checked(paths(kernel), CRASH, seen(), kernel.root):
        pass


def with_room(size: int) -> object:
    """In the region above 4 GiB; the one below, larger here, is not for the image."""
    regions = RangeSet.of((1 << 28, 3 << 28), (1 << 32, (1 << 32) + size))
    return MemoryMap(gib(*range(8)), crash_regions=regions)


@pytest.mark.parametrize(("spare", "good"), [(0, True), (-1, False)])
def test_what_does_not_fit_into_the_reservation(kernel: FakeKernel, spare: int, good: bool) -> None:
    look = seen(map=with_room(INIT_SIZE + len(cpio()) + spare))
    if good:
        with checked(paths(kernel), CRASH, look, kernel.root):
            pass
    else:
        with (
            pytest.raises(Refused, match="larger crashkernel="),
            checked(paths(kernel), CRASH, look, kernel.root),
        ):
            pass
    with checked(paths(kernel), REBOOT, look, kernel.root):
        pass  # it needs no reservation


def test_what_goes_wrong_in_the_body_is_none_of_its_business(kernel: FakeKernel) -> None:
    with (
        pytest.raises(OSError, match="from the body"),
        checked(paths(kernel), CRASH, seen(), kernel.root),
    ):
        raise OSError("from the body")


def test_nothing_stays_open_after_a_refusal(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now: set[int] = set()
    opening, closing = os.open, os.close

    def opened(*arguments: object) -> int:
        fd = opening(*arguments)  # type: ignore[arg-type]
        open_now.add(fd)
        return fd

    def closed(fd: int) -> None:
        open_now.discard(fd)
        closing(fd)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "close", closed)
    kernel.path("boot/initrd.img").write_bytes(b"")
    assert refusal(kernel)
    assert not open_now
