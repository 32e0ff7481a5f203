# SPDX-License-Identifier: GPL-2.0-or-later
"""ACPI memory devices, as the lab's guests list them: one directory a slot, most of them empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.kernel.acpi_memory import memory_present


@pytest.mark.parametrize(
    ("statuses", "present"),
    [([], False), (["0\n", "0\n"], False), (["0\n", "15\n"], True), (["", "0\n"], False)],
)
def test_memory_present(tmp_path: Path, statuses: list[str], present: bool) -> None:
    for number, status in enumerate(statuses):
        device = tmp_path / f"sys/bus/acpi/devices/PNP0C80:{number:02x}"
        device.mkdir(parents=True)
        (device / "status").write_text(status)
    other = tmp_path / "sys/bus/acpi/devices/PNP0C0A:00"
    other.mkdir(parents=True)
    (other / "status").write_text("15\n")
    assert memory_present(tmp_path) is present
