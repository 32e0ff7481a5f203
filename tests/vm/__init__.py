# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests on booted kernels. See lab/ for the machines that they run on."""
