# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes systemd/kexecwatchd.catalog from kexecwatchd/messages.py; the format is explained in
https://systemd.io/CATALOG.

    python3 -m tools.catalog
"""

from __future__ import annotations

from pathlib import Path

from kexecwatchd.messages import MESSAGES, Message

PATH = Path(__file__).parent.parent / "systemd/kexecwatchd.catalog"

_HEAD = """\
# SPDX-License-Identifier: GPL-2.0-or-later
# What journalctl -x says of kexecwatchd's entries. Made from kexecwatchd/messages.py: change that,
# and run python3 -m tools.catalog.
"""


def catalog() -> str:
    """The whole file."""
    return "\n".join([_HEAD, *(_entry(message) for message in MESSAGES)])


def _entry(message: Message) -> str:
    return f"""\
-- {message.id}
Subject: {message.subject}
Defined-By: kexecwatchd
Documentation: man:kexecwatchd(8)

{message.body}"""


if __name__ == "__main__":
    PATH.write_text(catalog())
