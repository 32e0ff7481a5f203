# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.kernel.kernel_size import KernelSize, SizeUnknown, read

from .trees import populate

# As 6.12 shows them.
TEXT = "ffffffff83600000 T _text\n"
BRK = "ffffffff86200000 B __brk_base\n"
END = "ffffffff86230000 B _end\n"


def test_the_first_page_of_the_brk_area_is_taken(tmp_path: Path) -> None:
    module = "ffffffffc0000000 t _text\t[module]\n"
    populate(tmp_path, {"proc/kallsyms": "0000000000000000 A other\n" + TEXT + module + BRK + END})
    assert read(tmp_path) == KernelSize(0x2C01000, 0x2C30000)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (TEXT + END, "does not list __brk_base"),
        ("", "does not list __brk_base, _end, _text"),
        ("".join(f"{0:016x} T {name}\n" for name in ("_text", "__brk_base", "_end")), "hides"),
    ],
)
def test_unknown(tmp_path: Path, text: str, wrong: str) -> None:
    populate(tmp_path, {"proc/kallsyms": text})
    with pytest.raises(SizeUnknown, match=f"kallsyms.* {wrong}"):
        read(tmp_path)
