# SPDX-License-Identifier: GPL-2.0-or-later
"""What checks/sources/look.py tells of a machine; cases say what is different."""

from __future__ import annotations

from typing import Any

from kexecwatchd.checks.sources.look import LOOK


def judged(image: str, state: str, reason: str = "", *, loaded: bool = True) -> dict[str, Any]:
    return {"image": image, "loaded": loaded, "state": state, "reason": reason, "proof": ""}


CURRENT = judged("crash", "current", "it lists all of memory and every CPU")
NO_REBOOT = judged("reboot", "absent", "none is loaded", loaded=False)


def look(*images: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """For Case.asks. A machine with 256 MiB reserved, a crash image that is right, no reboot image,
    and memory that is there to stay."""
    told = {
        "images": list(images or (CURRENT, NO_REBOOT)),
        "reserved": 256 << 20,
        "blocks": True,
        "boot_known": True,
        "movable": 0,
        "driver_managed": 0,
        "hot_added": 0,
        "offline": 0,
        "usable": 0,
        "forecast": None,
        "lost": "",
        "obstacle": "",
    }
    return {LOOK.name: {**told, **changes}}
