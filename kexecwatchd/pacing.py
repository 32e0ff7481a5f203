# SPDX-License-Identifier: GPL-2.0-or-later
"""When to look and when to load: the storm rules, without a clock of their own.

Looking waits for `quiet` seconds without an event, but under a lasting storm not longer than
`max_wait` after the first. Loading leaves the machine unarmed for as long as it lasts, so the
pause between loads is never shorter than keeps that time below `unarmed_budget`, and doubles with
each further load of the same storm. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecwatchd.config import PacingConfig
from kexecwatchd.ledger import Ledger

LONGEST_PAUSE = 30.0  # seconds: a storm never delays a needed load longer than this by doubling


@dataclass(slots=True)
class Pacing:
    quiet: float
    max_wait: float
    unarmed_budget: float
    first_event: float | None = None
    last_event: float = 0.0
    storm_loads: int = 0
    last_load_end: float | None = None
    last_load_seconds: float = 0.0

    def take(self, settings: PacingConfig) -> None:
        """Go by these from now on."""
        self.quiet = settings.quiet
        self.max_wait = settings.max_wait
        self.unarmed_budget = settings.unarmed_budget

    def event(self, now: float) -> None:
        """Something happened that a look should see."""
        if self.first_event is None:
            self.first_event = now
        self.last_event = now

    def look_due(self) -> float | None:
        """When the events so far call for a full look; None when there are none."""
        if self.first_event is None:
            return None
        return min(self.last_event + self.quiet, self.first_event + self.max_wait)

    def looked(self, now: float) -> None:
        """A full look began at `now`, due or not: events until then are answered.

        While the storm goes on, a look that came early (somebody asked for it) does not put off
        the one that is due.
        """
        if self.first_event is None or now >= self.last_event + self.quiet:
            self.first_event = None
        elif now >= self.first_event + self.max_wait:
            self.first_event = now

    def settled(self) -> bool:
        """True when no event waits for its look."""
        return self.first_event is None

    def calm(self) -> None:
        """Nothing happens and nothing is left to do: the storm is over."""
        self.storm_loads = 0

    def loaded(self, end: float, seconds: float) -> None:
        """A load of either image ended, well or not: the machine was unarmed for `seconds`."""
        self.storm_loads += 1
        self.last_load_end = end
        self.last_load_seconds = seconds

    def load_allowed(self, endangers: bool) -> float:
        """The earliest time for the next load; a drift that endangers is not rationed by budget."""
        if self.last_load_end is None:
            return 0.0
        pause = 0.0
        if self.storm_loads:
            # The cap on the exponent: a float ends at 2 ** 1023, a storm of failures need not.
            pause = min(self.max_wait * 2.0 ** min(self.storm_loads - 1, 60), LONGEST_PAUSE)
        if not endangers:
            pause = max(pause, self.last_load_seconds / self.unarmed_budget)
        return self.last_load_end + pause


def resumed(settings: PacingConfig, book: Ledger) -> Pacing:
    """Pacing that remembers the last load of a daemon before this one."""
    pacing = Pacing(settings.quiet, settings.max_wait, settings.unarmed_budget)
    loads = [r.last_load for r in (book.crash, book.reboot) if r.last_load is not None]
    if loads:
        last = max(loads, key=lambda load: load.ended)
        pacing.last_load_end, pacing.last_load_seconds = last.ended, last.seconds
    return pacing
