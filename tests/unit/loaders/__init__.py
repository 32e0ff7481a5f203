# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of kexecwatchd.loaders. What kexec_file.py does is tested through the executor."""
