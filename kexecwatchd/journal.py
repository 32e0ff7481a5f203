# SPDX-License-Identifier: GPL-2.0-or-later
"""One structured journal entry for each decision; plain lines on stderr outside of systemd.

Sizes only: the journal is read by more people than root.
"""

from __future__ import annotations

import os
import sys
from syslog import LOG_ERR, LOG_INFO, LOG_NOTICE, LOG_WARNING

from systemd import journal

__all__ = ["LOG_ERR", "LOG_INFO", "LOG_NOTICE", "LOG_WARNING", "entry"]


def entry(message: str, priority: int = LOG_INFO, **fields: str | int) -> None:
    """Write an entry; `fields` are journal fields, in capitals."""
    if "JOURNAL_STREAM" in os.environ:
        journal.send(message, PRIORITY=priority, SYSLOG_IDENTIFIER="kexecwatchd", **fields)
    else:
        print(f"kexecwatchd: {message}", file=sys.stderr, flush=True)
