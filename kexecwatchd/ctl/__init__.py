# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchctl: asks the daemon, over D-Bus and without rights, and shows the answer."""
