# SPDX-License-Identifier: GPL-2.0-or-later
"""The system call is replaced throughout: no test may ever reach the real one."""

from __future__ import annotations

import ctypes
import errno
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import kexec_file
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_DEBUG, KEXEC_FILE_ON_CRASH
from kexecwatchd.model import ImageName


class FakeSyscall:
    """Records what it is called with, and fails with `errno` if set."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.errno = 0

    def __call__(self, *arguments: object) -> int:
        self.calls.append(arguments)
        ctypes.set_errno(self.errno)
        return -1 if self.errno else 0


@pytest.fixture(autouse=True)
def syscall(monkeypatch: pytest.MonkeyPatch) -> FakeSyscall:
    fake = FakeSyscall()
    monkeypatch.setattr(kexec_file, "_syscall", fake)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return fake


def test_load(syscall: FakeSyscall) -> None:
    kexec_file.load(7, 8, "root=/dev/vda quiet", KEXEC_FILE_ON_CRASH | KEXEC_FILE_DEBUG)
    assert syscall.calls == [(320, 7, 8, 20, b"root=/dev/vda quiet\0", 0xA)]


def test_load_without_initrd(syscall: FakeSyscall) -> None:
    kexec_file.load(7, None, "", 0)
    assert syscall.calls == [(320, 7, -1, 1, b"\0", 0x4)]


def test_unload(syscall: FakeSyscall) -> None:
    kexec_file.unload(0)
    kexec_file.unload(KEXEC_FILE_ON_CRASH)
    assert syscall.calls == [(320, -1, -1, 0, b"", 0x1), (320, -1, -1, 0, b"", 0x3)]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EPERM, errno.EKEYREJECTED, errno.EBUSY])
def test_trying_out_never_loads(syscall: FakeSyscall, code: int) -> None:
    """No NUL ends the command line, and it is not for the crash image, which would be dropped."""
    syscall.errno = code
    with nullcontext() if code == errno.EINVAL else pytest.raises(OSError, match="flags 0x4"):
        kexec_file.try_out(7)
    assert syscall.calls == [(320, 7, -1, 1, b"-", 0x4)]


@pytest.mark.parametrize(
    ("machine", "number"),
    [("aarch64", 294), ("riscv64", 294), ("loongarch64", 294), ("ppc64le", 382), ("s390x", 381)],
)
def test_each_machine_has_its_number(
    syscall: FakeSyscall, monkeypatch: pytest.MonkeyPatch, machine: str, number: int
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    kexec_file.unload(0)
    assert syscall.calls[0][0] == number


def test_an_unknown_machine_makes_no_call(
    syscall: FakeSyscall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "parisc64")
    with pytest.raises(OSError, match="parisc64") as caught:
        kexec_file.load(7, 8, "", 0)
    assert caught.value.errno == errno.ENOSYS
    assert not syscall.calls


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EPERM, errno.EADDRNOTAVAIL])
def test_errno_becomes_oserror(syscall: FakeSyscall, code: int) -> None:
    syscall.errno = code
    with pytest.raises(OSError, match="kexec_file_load with flags 0x2: ") as caught:
        kexec_file.load(7, 8, "", 0x2)
    assert caught.value.errno == code
    with pytest.raises(OSError, match="kexec_file_load with flags 0x3: ") as caught:
        kexec_file.unload(0x2)
    assert caught.value.errno == code


def test_a_nul_is_refused_before_the_call(syscall: FakeSyscall) -> None:
    with pytest.raises(ValueError, match="NUL at character 5"):
        kexec_file.load(7, 8, "root=\0quiet", 0)
    assert not syscall.calls


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_command_line_arrives_whole(text: str) -> None:
    data = text.encode()
    fake = FakeSyscall()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kexec_file, "_syscall", fake)
        kexec_file.load(3, 4, text, 0)
    assert fake.calls[0][3:5] == (len(data) + 1, data + b"\0")


@pytest.mark.parametrize("image", list(ImageName))
@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_every_errno_has_words(image: ImageName, code: int) -> None:
    assert len(kexec_file.explain(code, image)) > 10


def test_no_hole_differs_by_image() -> None:
    assert "crashkernel=" in kexec_file.explain(errno.EADDRNOTAVAIL, ImageName.CRASH)
    assert "crashkernel=" not in kexec_file.explain(errno.EADDRNOTAVAIL, ImageName.REBOOT)
