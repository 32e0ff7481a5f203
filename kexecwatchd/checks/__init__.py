# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor: will a dump, or a kexec, work on this machine? One question a module.

They look, and change nothing. Their texts name sizes, never physical addresses.
"""
