# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.placement_rules import Rules, RulesUnknown, read_rules

from .trees import kcore, populate, relocatable

RODATA = 0xFFFFFFFF82000000
PURGATORY, SIZE = RODATA + 0x1000, RODATA + 0x8000
PROGBITS, NOBITS = 1, 8
ALLOC = 2
OBJECT = relocatable((PROGBITS, ALLOC, 0x4000, 4096), (NOBITS, ALLOC, 0x1000, 4096))
SYMBOLS = f"""\
ffffffff81000000 T _text
ffffffff810010b0 T walk_system_ram_res
ffffffff810010d0 T __pfx_walk_system_ram_res_rev
ffffffff810010e0 T walk_system_ram_res_rev
ffffffff810020e0 t kho_fill_kimage\t[alike_but_a_module]
{PURGATORY:x} D kexec_purgatory
{SIZE:x} D kexec_purgatory_size
ffffffff83000000 d what_comes_after
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Callable[..., Path]:
    """kernel(object, size=…): a root with a kernel that has this purgatory."""

    def build(purgatory: bytes = OBJECT, size: int | None = None, symbols: str = SYMBOLS) -> Path:
        length = struct.pack("<Q", len(purgatory) if size is None else size)
        kcore(tmp_path, {0x1000: b"RAM"}, image={PURGATORY: purgatory, SIZE: length})
        populate(tmp_path, {"proc/kallsyms": symbols})
        return tmp_path

    return build


Kernel = Callable[..., Path]


def test_a_kernel_of_today(kernel: Kernel) -> None:
    assert read_rules(kernel(), "x86_64") == Rules(
        highest_first=True, purgatory=0x5000, boot_parameters=(160,)
    )


def test_an_old_kernel(kernel: Kernel) -> None:
    """Older than the walk from the highest down, perhaps than the random seed."""
    symbols = SYMBOLS.replace("T walk_system_ram_res_rev", "T something_else")
    root = kernel(symbols=symbols)
    assert read_rules(root, "x86_64") == Rules(
        highest_first=False, purgatory=0x5000, boot_parameters=(112, 160)
    )


@pytest.mark.parametrize(
    ("sections", "memory"),
    [
        ([(PROGBITS, ALLOC, 1, 1)], 0x1000),
        # Not loaded: relocations, symbols, comments.
        ([(PROGBITS, ALLOC, 0x1000, 16), (4, 0, 0x9000, 8), (PROGBITS, 0, 0x9000, 1)], 0x1000),
        # Each section starts at its own alignment.
        ([(PROGBITS, ALLOC, 1, 16), (PROGBITS, ALLOC, 0x1000, 4096)], 0x2000),
        ([(PROGBITS, ALLOC, 0xFF0, 16), (PROGBITS, ALLOC, 0x10, 16)], 0x1000),
        ([(PROGBITS, ALLOC, 0xFF1, 16), (PROGBITS, ALLOC, 0x10, 16)], 0x2000),
        ([(PROGBITS, ALLOC, 1, 1), (PROGBITS, ALLOC, 0x1001, 4096)], 0x3000),
        # All bss comes after all else, at its own alignment.
        ([(NOBITS, ALLOC, 0x800, 1), (PROGBITS, ALLOC, 0x801, 1)], 0x2000),
        ([(PROGBITS, ALLOC, 1, 1), (NOBITS, ALLOC, 0x1001, 4096)], 0x3000),
        ([(PROGBITS, ALLOC, 1, 1), (NOBITS, ALLOC, 1, 1), (NOBITS, ALLOC, 0x1001, 4096)], 0x4000),
        ([(PROGBITS, ALLOC, 0x1000, 1), (NOBITS, ALLOC, 1, 1), (NOBITS, ALLOC, 1, 2048)], 0x2000),
        ([(PROGBITS, ALLOC, 0x7F0, 0), (NOBITS, ALLOC, 0x10, 0)], 0x1000),
    ],
)
def test_the_size_of_a_purgatory(
    kernel: Kernel, sections: list[tuple[int, int, int, int]], memory: int
) -> None:
    assert read_rules(kernel(relocatable(*sections)), "x86_64").purgatory == memory


@pytest.mark.parametrize(
    ("purgatory", "size", "reason"),
    [
        (OBJECT, 0, "of 0 bytes cannot be"),
        (OBJECT, 1 << 40, "cannot be"),
        (bytes(200), None, "no ELF64 object"),
        (OBJECT[:63], None, "no ELF64 object"),
        (OBJECT[:-1], None, "section headers"),
        (relocatable((PROGBITS, 0, 100, 1)), None, "of 0 bytes"),
        (relocatable((PROGBITS, ALLOC, 100, 8192)), None, "aligned to 8192"),
        (relocatable((PROGBITS, ALLOC, 9, 1), (NOBITS, ALLOC, 9, 8192)), None, "aligned to 8192"),
        (OBJECT, len(OBJECT) + 1, "does not show the kernel's own data"),
    ],
)
def test_no_purgatory_that_we_know(
    kernel: Kernel, purgatory: bytes, size: int | None, reason: str
) -> None:
    with pytest.raises(RulesUnknown, match=reason):
        read_rules(kernel(purgatory, size), "x86_64")


@pytest.mark.parametrize("machine", ["aarch64", "riscv64", "i686"])
def test_other_machines(kernel: Kernel, machine: str) -> None:
    with pytest.raises(RulesUnknown, match=machine):
        read_rules(kernel(), machine)


@pytest.mark.parametrize(
    ("symbol", "reason"), [("ima_add_kexec_buffer", "IMA"), ("kho_fill_kimage", "KEXEC_HANDOVER")]
)
def test_what_adds_segments(kernel: Kernel, symbol: str, reason: str) -> None:
    line = f"ffffffff81500000 T {symbol}\n"
    place = SYMBOLS.index(f"{PURGATORY:x}")
    with pytest.raises(RulesUnknown, match=reason):
        read_rules(kernel(symbols=SYMBOLS[:place] + line + SYMBOLS[place:]), "x86_64")


def test_no_more_is_read_than_needed(kernel: Kernel) -> None:
    read_rules(kernel(symbols=SYMBOLS + "unread T kexec_purgatory\n"), "x86_64")


def test_hidden_addresses(kernel: Kernel) -> None:
    hidden = "".join(f"{'0' * 16}{line[16:]}\n" for line in SYMBOLS.splitlines())
    with pytest.raises(RulesUnknown, match="kptr_restrict"):
        read_rules(kernel(symbols=hidden), "x86_64")


@pytest.mark.parametrize("symbols", ["", "ffffffff81000000 T _text\n", "garbage\n\n"])
def test_a_kernel_without_purgatory(kernel: Kernel, symbols: str) -> None:
    with pytest.raises(RulesUnknown, match="no kexec_file_load"):
        read_rules(kernel(symbols=symbols), "x86_64")


@pytest.mark.parametrize("path", ["proc/kcore", "proc/kallsyms"])
def test_what_cannot_be_read(kernel: Kernel, path: str) -> None:
    root = kernel()
    (root / path).unlink()
    with pytest.raises(RulesUnknown, match=f"{path}: No such file"):
        read_rules(root, "x86_64")


def test_no_kcore(kernel: Kernel) -> None:
    root = kernel()
    populate(root, {"proc/kcore": bytes(100)})
    with pytest.raises(RulesUnknown, match="no ELF64 file"):
        read_rules(root, "x86_64")


@pytest.mark.parametrize("keep", [3, 200])
def test_no_reason_tells_an_address(kernel: Kernel, keep: int) -> None:
    """Neither where a read fails nor where nothing is mapped."""
    root = kernel()
    path = root / "proc/kcore"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RulesUnknown) as caught:
        read_rules(root, "x86_64")
    assert "0x" not in str(caught.value)
    symbols = SYMBOLS.replace(f"{SIZE:x}", "ffffffff8fff0000")
    with pytest.raises(RulesUnknown) as caught:
        read_rules(kernel(symbols=symbols), "x86_64")
    assert "0x" not in str(caught.value)


def test_efi_adds_its_memory_map(kernel: Kernel) -> None:
    root = kernel()
    boot_params = bytearray(4096)
    struct.pack_into("<I", boot_params, 0x1C8, 48)
    populate(root, {"sys/kernel/boot_params/data": bytes(boot_params)})
    assert read_rules(root, "x86_64").boot_parameters == (160,)
    for number in range(37):
        populate(root, {f"sys/firmware/efi/runtime-map/{number}/type": "0x0\n"})
    assert read_rules(root, "x86_64").boot_parameters == (160 + 37 * 48,)


@given(st.binary(max_size=200), st.integers(0, len(OBJECT)))
def test_any_purgatory_is_refused_or_has_a_size(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    root = tmp_path_factory.mktemp("rules")
    purgatory = OBJECT[:at] + noise + OBJECT[at + len(noise) :]
    image = {PURGATORY: purgatory, SIZE: struct.pack("<Q", len(purgatory))}
    kcore(root, {0x1000: b"RAM"}, image=image)
    populate(root, {"proc/kallsyms": SYMBOLS})
    try:
        size = read_rules(root, "x86_64").purgatory
    except RulesUnknown:
        return
    assert size > 0
    assert size % 4096 == 0
