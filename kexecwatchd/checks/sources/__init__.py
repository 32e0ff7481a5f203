# SPDX-License-Identifier: GPL-2.0-or-later
"""What several checks ask of a machine, and the readers of other tools' files."""
