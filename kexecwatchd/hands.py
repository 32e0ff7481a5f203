# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out a load or unload and notes in the ledger what became of it; the look that must follow
is the engine's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from kexecwatchd import bookkeeping, deeds, lastgood, reconcile
from kexecwatchd.book import Book
from kexecwatchd.bookkeeping import Now
from kexecwatchd.config import ImageConfig
from kexecwatchd.deeds import Deed
from kexecwatchd.execute import Executor, Outcome
from kexecwatchd.ledger import ImageRecord, Ledger
from kexecwatchd.model import Action, ImageName, Load, Observation, Step

Done = tuple[Outcome, Deed | None]
"""How it ended, and the deed to tell; None where that has been told: it failed as the last time."""


class Hands:
    """The executor, with the ledger kept. Each load is made inside `loading()`."""

    def __init__(
        self,
        root: Path,
        book: Book,
        clock: Callable[[], Now],
        loading: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._copies = root / lastgood.DIRECTORY
        self._executor = Executor(root, self._copies)
        self._book = book
        self._clock = clock
        self._loading = loading
        # Copies of an earlier boot may have been cut short by a power failure.
        self._prune()

    def give_new_chance(self) -> None:
        """What the kernel or a loader refused may be tried again."""
        self._executor.forget_failures()
        self._book.ledger = bookkeeping.new_chance(self._book.ledger)

    async def load(
        self, step: Step, load: Load, seen: Observation, config: ImageConfig, by: str
    ) -> Done:
        """Load the image upon what was seen. `by`: who asked for it, "" = nobody."""
        image, book = step.image, self._book
        pair = reconcile.pair_of(config)
        assert pair is not None, "a load is planned only where files are configured"
        record = book.ledger.of(image)
        began = self._clock()
        book.ledger = bookkeeping.intending(book.ledger, image, pair, seen, why=load.why, now=began)
        book.save()
        async with self._loading():
            outcome = await asyncio.to_thread(
                self._executor.load,
                image,
                pair,
                record.last_good,
                seen,
                load=load,
                refused_flags=book.ledger.refused_flags,
            )
        book.ledger = bookkeeping.after_load(
            book.ledger, image, pair, load, outcome=outcome, before=seen, now=self._clock()
        )
        book.save()
        if outcome.succeeded:
            self._prune()
        deed = deeds.begin(Action.LOAD, step, load.why, began, by).ended(outcome)
        return outcome, _worth_telling(deed, record)

    async def unload(self, step: Step, why: str, config: ImageConfig, by: str) -> Done:
        """Unload the image. `by`: somebody wants that, and no other in its place."""
        action = Action.DISCARD if by else Action.UNLOAD
        record = self._book.ledger.of(step.image)
        deed = deeds.begin(action, step, why, self._clock(), by)
        outcome = await asyncio.to_thread(self._executor.unload, step.image)
        if by:
            self._book.ledger = bookkeeping.after_discard(
                self._book.ledger, step.image, why, outcome=outcome, now=self._clock()
            )
        else:
            self._book.ledger = self._after_unload(step.image, why, outcome, config)
        return outcome, _worth_telling(deed.ended(outcome), record)

    def _after_unload(
        self, image: ImageName, why: str, outcome: Outcome, config: ImageConfig
    ) -> Ledger:
        ledger, moment = self._book.ledger, self._clock()
        if not outcome.succeeded:
            return bookkeeping.after_failed_unload(ledger, image, outcome, moment)
        owed = config.files is not None
        return bookkeeping.after_unload(ledger, image, why, owed, outcome=outcome, now=moment)

    def _prune(self) -> None:
        kept = (self._book.ledger.crash.last_good, self._book.ledger.reboot.last_good)
        lastgood.prune(self._copies, kept)


def _worth_telling(deed: Deed, before: ImageRecord) -> Deed | None:
    """None for what failed as the last time, unless all was well in between."""
    decision = deed.decision
    repeated = before.failures > 0 and decision.error == before.last_error
    return None if repeated and not decision.succeeded and not decision.by else deed
