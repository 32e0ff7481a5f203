# SPDX-License-Identifier: GPL-2.0-or-later
"""One kernel interface a module; each takes the root path it reads below: tests feed it files."""
