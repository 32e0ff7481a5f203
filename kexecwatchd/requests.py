# SPDX-License-Identifier: GPL-2.0-or-later
"""How what was asked of the daemon can end other than well. Each text is a sentence for people: it
says why, and what would help; it names no address."""

from __future__ import annotations


class Refused(Exception):
    """It will not be done, and nothing was touched."""


class Held(Refused):
    """Somebody holds (see report.Hold): nothing is loaded until that is over."""


class LoadFailed(Exception):
    """It was tried, and the kernel, the files or the loader did not go along."""


class NoSuchHold(Exception):
    """There is none of that number, or it is somebody else's."""


class TooManyHolds(Exception):
    """No more can be taken."""
