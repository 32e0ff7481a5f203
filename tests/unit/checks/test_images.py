# SPDX-License-Identifier: GPL-2.0-or-later
"""Are the loaded images right?"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer

from .looks import CURRENT, NO_REBOOT, judged, look
from .machines import Case

TOML = "etc/kexecwatchd/kexecwatchd.toml"
ENSURE = 'mode = "ensure"\nkernel = "/boot/vmlinuz"\ncmdline = "quiet"\n'
NO_CRASH = judged("crash", "absent", "none is loaded", loaded=False)
UNSAFE = judged(
    "reboot", "unsafe", "starting it would put 36 MiB of it into memory that is offline"
)

CASES = (
    Case(
        "a crash image that is right",
        Answer.OK,
        "crash image current: it lists all of memory",
        asks=look(),
    ),
    Case(
        "both are right",
        Answer.OK,
        "reboot image current: all of it lies in memory that stays",
        asks=look(CURRENT, judged("reboot", "current", "all of it lies in memory that stays")),
    ),
    Case(
        "drift",
        Answer.PROBLEM,
        "crash image stale: 512 MiB of memory would be missing from a dump",
        asks=look(
            judged("crash", "stale", "512 MiB of memory would be missing from a dump"), NO_REBOOT
        ),
    ),
    Case(
        "a reboot image over memory that went",
        Answer.PROBLEM,
        "crash image current: it lists all of memory and every CPU; reboot image unsafe: starting",
        asks=look(CURRENT, UNSAFE),
    ),
    Case(
        "the last load failed",
        Answer.PROBLEM,
        "crash image failed: none is loaded: no room",
        asks=look(judged("crash", "failed", "none is loaded: no room", loaded=False), NO_REBOOT),
    ),
    Case(
        "memory is reserved, and nothing is loaded into it",
        Answer.PROBLEM,
        "crash image absent: none is loaded",
        asks=look(NO_CRASH, NO_REBOOT),
    ),
    Case(
        "a reboot image that is asked for and is not there",
        Answer.PROBLEM,
        "reboot image absent",
        {TOML: f"[reboot]\n{ENSURE}"},
        look(),
    ),
    Case(
        "a crash image that is asked for, without a reservation",
        Answer.PROBLEM,
        "crash image absent",
        {TOML: f"[crash]\n{ENSURE}"},
        look(NO_CRASH, NO_REBOOT, reserved=0),
    ),
    Case(
        "someone else's reboot image",
        Answer.CANNOT_TELL,
        "reboot image unknown: where it lies is not known",
        asks=look(CURRENT, judged("reboot", "unknown", "where it lies is not known")),
    ),
    Case(
        "nothing is loaded, or reserved, or asked for",
        Answer.NOT_APPLICABLE,
        "no image is loaded",
        {TOML: '[crash]\nmode = "follow"\n'},
        look(NO_CRASH, NO_REBOOT, reserved=0),
    ),
    Case(
        "a configuration that cannot be read",
        Answer.CANNOT_TELL,
        "configuration is wrong",
        {TOML: "[crash\n"},
        look(NO_CRASH, NO_REBOOT),
    ),
)
