# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running kernel keeps reserved for a capture kernel, in sizes only."""

from __future__ import annotations

from dataclasses import dataclass

from kexecwatchd.checks.host import Host, Source
from kexecwatchd.crashplace import LOW_MAX
from kexecwatchd.kernel import iomem


@dataclass(frozen=True, slots=True)
class Reservation:
    """Bytes. `low`, `high`: what is reserved below and above 4 GiB. `image`: what the running
    kernel's own code and data take, 0 = not known. `srat`: ACPI describes memory by node, so the
    capture kernel knows of all memory there could be."""

    low: int
    high: int
    image: int
    srat: bool

    @property
    def total(self) -> int:
        return self.low + self.high

    @property
    def main(self) -> int:
        """The region that an image is loaded into (crashk_res); the low one is beside it."""
        return self.high or self.low


def _look(host: Host) -> Reservation:
    regions = iomem.read_memory_map(host.root).crash_regions
    kernel = iomem.read_kernel(host.root)
    low = sum(region.size for region in regions if region.start < LOW_MAX)
    return Reservation(
        low=low,
        high=sum(region.size for region in regions) - low,
        image=kernel.size if kernel else 0,
        srat=host.path("sys/firmware/acpi/tables/SRAT").exists(),
    )


RESERVATION: Source[Reservation] = Source("crash-reservation", Reservation, _look)
