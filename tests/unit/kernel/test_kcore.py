# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.kcore import Kcore, KcoreError, NotMapped

from .trees import PT_LOAD, elf, kcore, phdr, populate

LOW, HIGH = 0x1000, 0x100000000


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_by_physical_address(tmp_path: Path, order: str) -> None:
    kcore(tmp_path, {LOW: b"low memory", HIGH: b"high memory"}, order)
    with Kcore(tmp_path) as core:
        assert core.read(LOW, 10) == b"low memory"
        assert core.read(HIGH + 5, 6) == b"memory"


TEXT = 0xFFFFFFFF81000000


def test_reads_the_kernel_by_virtual_address(tmp_path: Path) -> None:
    kcore(tmp_path, {LOW: b"low memory"}, image={TEXT: b"kernel text"})
    with Kcore(tmp_path) as core:
        assert core.read_virtual(TEXT + 7, 4) == b"text"
        assert core.read(LOW, 3) == b"low"
        for address, size in ((TEXT - 1, 2), (TEXT + 10, 2), (1 << 63, 1)):
            with pytest.raises(NotMapped, match="virtual"):
                core.read_virtual(address, size)


@pytest.mark.parametrize(("address", "size"), [(0, 1), (LOW - 1, 2), (LOW + 9, 2), (HIGH + 11, 1)])
def test_what_no_mapping_covers(tmp_path: Path, address: int, size: int) -> None:
    kcore(tmp_path, {LOW: b"low memory", HIGH: b"high memory"})
    with Kcore(tmp_path) as core, pytest.raises(NotMapped, match=f"{address:#x}-"):
        core.read(address, size)


def test_a_large_range_at_zero_does_not_hide_ram(tmp_path: Path) -> None:
    """Kernels before 4.11 gave vmalloc's range p_paddr 0."""
    loads = [phdr(PT_LOAD, 0, 1 << 45, 0x7000), phdr(PT_LOAD, LOW, 4, 64 + 2 * 56)]
    populate(tmp_path, {"proc/kcore": elf(*loads) + b"true"})
    with Kcore(tmp_path) as core:
        assert core.read(LOW, 4) == b"true"


def test_memory_at_zero_is_read(tmp_path: Path) -> None:
    kcore(tmp_path, {0: b"arm64 has RAM here"})
    with Kcore(tmp_path) as core:
        assert core.read(0, 5) == b"arm64"


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    kcore(tmp_path, {LOW: b"low memory"})
    path = tmp_path / "proc/kcore"
    path.write_bytes(path.read_bytes()[:-1])
    with Kcore(tmp_path) as core, pytest.raises(OSError, match="ends at offset"):
        core.read(LOW, 10)


@pytest.mark.parametrize("content", [b"\x7fELF\x01\x01" + bytes(64), b"core" * 32])
def test_no_elf64_file(tmp_path: Path, content: bytes) -> None:
    populate(tmp_path, {"proc/kcore": content})
    with pytest.raises(KcoreError, match="proc/kcore"):
        Kcore(tmp_path)


def test_refusals_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        Kcore(tmp_path)

    def locked_down(path: Path, flags: int) -> int:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr("kexecwatchd.kernel.kcore.os.open", locked_down)
    with pytest.raises(PermissionError, match="proc/kcore"):
        Kcore(tmp_path)


def test_nothing_stays_open(tmp_path: Path) -> None:
    kcore(tmp_path, {LOW: b"low memory"})
    before = len(os.listdir("/proc/self/fd"))
    with Kcore(tmp_path):
        assert len(os.listdir("/proc/self/fd")) == before + 1
    populate(tmp_path, {"proc/kcore": b""})
    with pytest.raises(OSError, match="ends at offset"):
        Kcore(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_file_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    root = tmp_path_factory.mktemp("kcore")
    kcore(root, {LOW: b"low memory"})
    path = root / "proc/kcore"
    content = path.read_bytes()
    path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    try:
        with Kcore(root) as core:
            assert len(core.read(LOW, 10)) == 10
    except (KcoreError, NotMapped, OSError, OverflowError):
        pass
