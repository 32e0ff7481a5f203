# SPDX-License-Identifier: GPL-2.0-or-later
"""Who works on the machine, so that nothing is loaded meanwhile. Pure: ledger in, ledger out.

Holds are in the ledger, so they outlive the daemon: a maintenance that upgrades kexecwatchd keeps
its hold. Which of them have ended with their connection, the bus adapter finds out.
"""

from __future__ import annotations

from kexecwatchd.ledger import HoldRecord, Ledger
from kexecwatchd.report import Hold
from kexecwatchd.requests import NoSuchHold, Refused, TooManyHolds

LIMIT = 64
LONGEST = 200  # characters of who and why


def take(ledger: Ledger, holder: str, who: str, why: str, wall: float) -> tuple[Ledger, Hold]:
    """A new hold, taken at `wall`. Raises TooManyHolds, and Refused where nobody is named."""
    if len(ledger.holds) >= LIMIT:
        raise TooManyHolds(
            f"there are {LIMIT} holds already, and no more can be taken; kexecwatchctl status"
            " shows who has them"
        )
    name = _words(who)
    if not name:
        raise Refused(
            "a hold needs the name of who takes it: whoever finds that nothing is loaded must see"
            " whom to ask"
        )
    number = ledger.hold_count + 1
    hold = Hold(number=number, who=name, why=_words(why), since=wall)
    records = (*ledger.holds, HoldRecord(holder=holder, hold=hold))
    return ledger.model_copy(update={"holds": records, "hold_count": number}), hold


def release(ledger: Ledger, holder: str, number: int) -> tuple[Ledger, Hold]:
    """Without this hold of this holder. Raises NoSuchHold."""
    for record in ledger.holds:
        if (record.holder, record.hold.number) == (holder, number):
            return _without(ledger, record), record.hold
    raise NoSuchHold(
        f"there is no hold {number} of yours: it has ended, or another connection took it"
    )


def gone(ledger: Ledger, holder: str) -> tuple[Ledger, tuple[Hold, ...]]:
    """Without all holds of this holder, and which these were."""
    ended = tuple(record for record in ledger.holds if record.holder == holder)
    for record in ended:
        ledger = _without(ledger, record)
    return ledger, tuple(record.hold for record in ended)


def obstacle(ledger: Ledger) -> str:
    """Who keeps everything from being loaded, "" when nobody does."""
    if not ledger.holds:
        return ""
    more = len(ledger.holds) - 1
    others = f" and {more} more" if more else ""
    return f"held by {described(ledger.holds[0].hold)}{others}"


def described(hold: Hold) -> str:
    return f"{hold.who} ({hold.why})" if hold.why else hold.who


def _without(ledger: Ledger, record: HoldRecord) -> Ledger:
    return ledger.model_copy(update={"holds": tuple(r for r in ledger.holds if r != record)})


def _words(text: str) -> str:
    """One line of printable text, cut short: everyone reads it, on screens and in the journal."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:LONGEST].rstrip()
