# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of kexecwatchd.kernel: each module on files as the kernel writes them."""
