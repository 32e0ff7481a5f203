# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.checks.host import Host
from kexecwatchd.checks.sources.bootlog import BOOT_LOG, without_addresses
from tests.unit.kernel.trees import populate


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "crashkernel reserved: 0x0000000011000000 - 0x0000000021000000 (256 MB)",
            "crashkernel reserved: [address] - [address] (256 MB)",
        ),
        (
            "Reserving 256MB of memory at 240MB for crashkernel (System RAM: 511MB)",
            "Reserving 256MB of memory at [address]MB for crashkernel (System RAM: 511MB)",
        ),
        (
            "Reserving 256MB of low memory at 1792MB for crashkernel (low RAM limit: 4096MB)",
            "Reserving 256MB of low memory at [address]MB for crashkernel (low RAM limit: 4096MB)",
        ),
        (
            "cannot allocate crashkernel low memory (size:0x10000000).",
            "cannot allocate crashkernel low memory (size: 256 MiB).",
        ),
        ("SEV: status [mem 0x1000-0x2fff]", "SEV: status [mem [address]-[address]]"),
    ],
)
def test_without_addresses(line: str, shown: str) -> None:
    assert without_addresses(line) == shown


def test_source(tmp_path: Path) -> None:
    line = "crashkernel reserved: 0x0000000011000000 - 0x0000000021000000 (256 MB)"
    populate(tmp_path, {"dev/kmsg": f"6,1,0,-;{line}\n"})
    assert Host(tmp_path).ask(BOOT_LOG) == (without_addresses(line),)
