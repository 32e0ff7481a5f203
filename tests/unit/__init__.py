# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that touch nothing outside a temporary directory; they mirror kexecwatchd/ by name."""
