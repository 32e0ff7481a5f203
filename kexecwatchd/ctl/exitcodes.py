# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit codes of kexecwatchctl, for scripts and monitoring; the README lists them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    CURRENT = 0  # every image is what its mode asks for
    ERROR = 1  # the daemon answered with an error, or with something that cannot be read
    USAGE = 2  # argparse's own
    NOT_CURRENT = 3  # an image that should be current is not; check: a problem was found
    UNREACHABLE = 4  # no daemon, no bus, or no answer in time
