# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchd keeps loaded crash and reboot images right while memory comes and goes."""

__version__ = "0.1.0"
