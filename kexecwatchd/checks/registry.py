# SPDX-License-Identifier: GPL-2.0-or-later
"""Every check there is, in the order in which people read them."""

from __future__ import annotations

from kexecwatchd.checks import first_megabyte, paging_levels, permission
from kexecwatchd.checks.check import Check

CHECKS: tuple[Check, ...] = (permission.CHECK, paging_levels.CHECK, first_megabyte.CHECK)
