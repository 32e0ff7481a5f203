# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchctl: asks the daemon, over D-Bus and without rights, and shows the answer.

The map alone looks itself: it is made of physical addresses, and also for when no daemon runs.
"""
