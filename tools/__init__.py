# SPDX-License-Identifier: GPL-2.0-or-later
"""What make runs to set a machine up."""
