# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the next kernel told of the memory that is there?"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer

from .looks import look
from .machines import Case

ARM64 = {"proc/sys/kernel/arch": "aarch64\n"}
LOST = (
    "512 MiB of boot memory is gone, and the next kernel would still be told of it;"
    " reboot through the firmware"
)

CASES = (
    Case("as it was at boot", Answer.OK, "still there", asks=look()),
    Case("a DIMM was added", Answer.OK, "still there", asks=look(hot_added=1 << 30)),
    Case("boot memory was removed", Answer.PROBLEM, "512 MiB of boot memory", asks=look(lost=LOST)),
    Case("not recorded", Answer.CANNOT_TELL, "did not run in this boot", asks=look(lost=None)),
    Case(
        "no memory hotplug",
        Answer.NOT_APPLICABLE,
        "no memory hotplug",
        asks=look(blocks=False),
    ),
    Case("arm64", Answer.OK, "no memory was added", ARM64, look(lost=None)),
    Case(
        "arm64 with memory from ACPI",
        Answer.WARNING,
        "firmware did not describe 1 GiB at boot",
        ARM64,
        look(lost=None, hot_added=1 << 30),
    ),
    Case(
        "arm64, not recorded",
        Answer.CANNOT_TELL,
        "did not run in this boot",
        ARM64,
        look(lost=None, boot_known=False),
    ),
    Case(
        "another machine",
        Answer.CANNOT_TELL,
        "not ppc64le",
        {"proc/sys/kernel/arch": "ppc64le\n"},
        look(),
    ),
)
