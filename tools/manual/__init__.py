# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages: prose in man/*.in, and every fact that stands in the code from there.

python3 -m tools.manual        write man/*.1, *.5 and *.8
"""
