# SPDX-License-Identifier: GPL-2.0-or-later
"""What everyone may read names no address."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.addresses import without_addresses


@given(st.integers(min_value=0x1000, max_value=1 << 52))
def test_an_address_is_hidden_however_it_is_written(address: int) -> None:
    said = without_addresses(
        f"at {address:#x}, {address:#x}-{address:#x}, {address:08x}-{address:x}"
    )
    assert said == "at [address], [address], [address]"


def test_what_is_no_address_stays() -> None:
    text = "/boot/vmlinuz-6.12.48: cannot read 4096 bytes: Input/output error"
    assert without_addresses(text) == text
