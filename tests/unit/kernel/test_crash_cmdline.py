# SPDX-License-Identifier: GPL-2.0-or-later
"""The loaded crash image's command line, as both loaders leave it in the crash region."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.crash_cmdline import find

HEADER = 0x1EF5D000
KERNEL = b"elfcorehdr=0x1ef5d000 console=ttyS0 acpi_no_memhotplug"
KEXEC_TOOLS = b"console=ttyS0 nr_cpus=1 elfcorehdr=507252K"


@pytest.mark.parametrize("line", [KERNEL, KEXEC_TOOLS])
def test_a_line_is_found_among_other_bytes(line: bytes) -> None:
    assert find(b"\x90\xff\0" + line + b"\0\x01\xfe", HEADER) == line.decode()


def test_a_line_that_names_another_header_is_a_stale_one() -> None:
    assert find(b"\0" + KERNEL + b"\0", HEADER + 0x1000) is None
    both = b"\0elfcorehdr=0xf000000 old\0\0" + KEXEC_TOOLS + b"\0"
    assert find(both, HEADER) == KEXEC_TOOLS.decode()
    assert find(both, 0xF000000) == "elfcorehdr=0xf000000 old"


def test_the_words_alone_are_no_command_line() -> None:
    assert (
        find(b"\0elfcorehdr=\0 myelfcorehdr=0x1ef5d000\0elfcorehdr=0x1ef5d0001\0", HEADER) is None
    )


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_around_it(before: bytes, after: bytes) -> None:
    found = find(before + b"\0" + KERNEL + b"\0" + after, HEADER)
    assert found is not None
    assert "acpi_no_memhotplug" in found or b"elfcorehdr" in after
