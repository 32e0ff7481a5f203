# SPDX-License-Identifier: GPL-2.0-or-later
"""The drivers of a machine's watchdogs, as `modprobe -R` names them (depmod(8), modules.alias)."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from kexecwatchd.profiles.reader import Obstacle, Reader

_CLASS = "/sys/class/watchdog"
_PLAIN = re.compile(r"[^*?[]*")


def watchdog_drivers(files: Reader, release: str) -> list[str]:
    """Each once, in the order of the watchdogs. Raises Obstacle where modules.alias does not say.

    What it does not list may be built in, or be named by /etc/modprobe.d.
    """
    drivers: dict[str, None] = {}
    for name in files.names(_CLASS):
        alias = (files.text_or_none(f"{_CLASS}/{name}/device/modalias") or "").strip()
        if alias:
            drivers[_driver(files, release, alias)] = None
    return list(drivers)


def _driver(files: Reader, release: str, alias: str) -> str:
    found = set()
    aliases = files.text_or_none(f"/usr/lib/modules/{release}/modules.alias") or ""
    for line in aliases.splitlines():
        match line.split():
            case ["alias", pattern, driver] if _fits(_same(alias), _same(pattern)):
                found.add(driver)
    if len(found) != 1:
        raise Obstacle(f"it has a word for the driver of the watchdog {alias}, which is unclear")
    return found.pop()


def _fits(alias: str, pattern: str) -> bool:
    """There are tens of thousands of patterns, and to prepare each for fnmatch takes seconds."""
    plain = _PLAIN.match(pattern)
    return plain is not None and alias.startswith(plain[0]) and fnmatchcase(alias, pattern)


def _same(name: str) -> str:
    return name.replace("-", "_")
