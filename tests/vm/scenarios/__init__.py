# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon is for, each shown on a booted kernel beside its control without the daemon."""
