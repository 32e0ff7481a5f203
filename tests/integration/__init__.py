# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests with real neighbours: a private bus, systemd's own checkers, an installed tree."""
