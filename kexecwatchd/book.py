# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger of this boot, as it is now and on disk; and each decision, where all learn of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kexecwatchd import bookkeeping, decisions, ledger
from kexecwatchd.ledger import Ledger
from kexecwatchd.report import Decision, History


class Book:
    """`ledger` is what is known now; `save` writes it down. `decided` hears each decision."""

    def __init__(self, path: Path, boot_id: str, decided: Callable[[Decision], None]) -> None:
        self._path = path
        self._decided = decided
        self.ledger, trouble = ledger.read(path, boot_id)
        if trouble:
            decisions.trouble(trouble)
        self._saved: Ledger | None = None
        self._save_trouble = False

    def decide(self, decision: Decision) -> None:
        """Number it, keep it, and tell journal and bus."""
        self.ledger = bookkeeping.decided(self.ledger, decision)
        kept = self.ledger.decisions[-1]
        count = self.ledger.of(kept.image).load_count if kept.image else 0
        decisions.tell(kept, count)
        self._decided(kept)

    def history(self) -> History:
        return History(decisions=list(self.ledger.decisions))

    def save(self) -> None:
        """Write the ledger down if it says something new; a full /run must not stop the work."""
        if self.ledger == self._saved:
            return
        try:
            ledger.write(self._path, self.ledger)
        except OSError as error:
            if not self._save_trouble:
                decisions.trouble(f"{self._path} cannot be written: {error.strerror}")
            self._save_trouble = True
        else:
            self._saved = self.ledger
            self._save_trouble = False
