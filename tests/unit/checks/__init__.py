# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's checks, on captured and made-up machines."""
