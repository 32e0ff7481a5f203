# SPDX-License-Identifier: GPL-2.0-or-later
"""The errors that a caller can get from us: each has a name to go by, and a sentence to read."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from dbus_fast import DBusError

from kexecwatchd.bus import names, translate
from kexecwatchd.requests import Held, LoadFailed, NoSuchHold, Refused, TooManyHolds

log = logging.getLogger(__name__)

# What each means, whatever sentence comes with it. What the bus itself answers (an unknown method,
# a message that its policy stops) is not ours, and not here.
ERRORS: Mapping[str, str] = {
    names.ERROR_ACCESS_DENIED: (
        "The caller may not do this: polkit, or a person whom it asked, said no, or it is for root"
        " alone. Nothing was done."
    ),
    names.ERROR_INTERACTIVE: (
        "The caller must authenticate first, and did not allow that, or nobody was there to ask"
        " for a password. Nothing was done."
    ),
    names.ERROR_INVALID_ARGS: (
        "An argument is none that this method takes; the text says which it does. Nothing was done."
    ),
    names.ERROR_LIMITS_EXCEEDED: "There are too many holds already. Nothing was done.",
    names.ERROR_REFUSED: (
        "It will not be done as things stand; the text says why. Nothing was touched."
    ),
    names.ERROR_HELD: (
        "Somebody holds, so nothing is loaded; the text says who, and why. Try again when the hold"
        " is over."
    ),
    names.ERROR_LOAD_FAILED: (
        "It was tried and did not come about; the text says what went wrong, and the image's"
        " properties what is loaded now."
    ),
    names.ERROR_NO_SUCH_HOLD: "There is no hold of this number, or another connection took it.",
    names.ERROR_FAILED: (
        "The daemon has a fault. The journal has the particulars: journalctl -u kexecwatchd."
    ),
}

_NAME_OF: Mapping[type[BaseException], str] = {
    Refused: names.ERROR_REFUSED,
    Held: names.ERROR_HELD,
    LoadFailed: names.ERROR_LOAD_FAILED,
    NoSuchHold: names.ERROR_NO_SUCH_HOLD,
    TooManyHolds: names.ERROR_LIMITS_EXCEEDED,
}


def answer(member: str, error: Exception) -> DBusError:
    """What the caller of `member` is told of an error inside it.

    One that nobody foresaw may have anything in its text, addresses too: the journal gets all of it
    (root's), the caller only that it was.
    """
    if isinstance(error, DBusError):
        return error
    for kind in type(error).__mro__:
        if kind in _NAME_OF:
            return DBusError(_NAME_OF[kind], translate.text(str(error)))
    log.error("%s failed inside the daemon", member, exc_info=error)
    return DBusError(
        names.ERROR_FAILED,
        f"{member} failed inside kexecwatchd with {type(error).__name__}:"
        " see journalctl -u kexecwatchd.",
    )
