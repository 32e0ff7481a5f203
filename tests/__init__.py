# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests: unit (no machine), integration (a private bus, an installed tree), vm (real kernels)."""
