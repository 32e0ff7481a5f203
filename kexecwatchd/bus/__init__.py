# SPDX-License-Identifier: GPL-2.0-or-later
"""The D-Bus adapter: shows report.py's models on the system bus, and takes no decisions."""

from kexecwatchd.bus.backend import Backend
from kexecwatchd.bus.connection import Bus
from kexecwatchd.bus.inhibitor import delayed_shutdown

__all__ = ["Backend", "Bus", "delayed_shutdown"]
