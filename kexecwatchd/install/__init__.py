# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs beside a package in its own Python environment what systemd, udev and others read."""
