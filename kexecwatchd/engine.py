# SPDX-License-Identifier: GPL-2.0-or-later
"""Look, decide, act, look again: the work itself, without bus, signals or service manager.

Every action follows a fresh look, and every load is followed by another one, the handshake. What
blocks runs in a worker thread; the caller sees to it that nothing here runs twice at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from kexecwatchd import bookkeeping, bootmemory, decisions, lastgood, ledger, reconcile, summary
from kexecwatchd.addresses import without_addresses
from kexecwatchd.bookkeeping import Now
from kexecwatchd.checks.check import Check
from kexecwatchd.checks.host import Host
from kexecwatchd.config import Config
from kexecwatchd.execute import Executor
from kexecwatchd.kernel import kexec_state
from kexecwatchd.ledger import Ledger, Prediction
from kexecwatchd.model import ImageName, Load, Mode, Observation, Step, Unload
from kexecwatchd.observe import Observer
from kexecwatchd.pacing import Pacing
from kexecwatchd.report import Details, ImageStatus, Status
from kexecwatchd.requests import LoadFailed, Refused
from kexecwatchd.rounds import CHEAP, Rounds, Timetable
from kexecwatchd.uevents import Batch

# Seconds between looks when nothing happens: images come and go without a uevent.
IDLE_LOOK = 60.0

# While a removal is under way: seconds until the next look, and how often before it is left to
# the idle look.
MOTION_LOOK = 0.2
MOTION_LOOKS = 25


def now() -> Now:
    """CLOCK_BOOTTIME goes on during suspend, as the ledger's times must."""
    return Now(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


class Engine:
    """Keeps both images right. `events` hands over the uevents since it was last called; each
    load is made inside `loading()`. `checks`: the questions to ask when there is time."""

    def __init__(
        self,
        root: Path,
        config: Config,
        events: Callable[[], Batch],
        publish: Callable[[Status], None],
        loading: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext,
        *,
        checks: Iterable[Check] = CHEAP,
    ) -> None:
        self._config = config
        self._events = events
        self._publish = publish
        self._loading = loading
        self._ledger_path = root / "run/kexecwatchd/ledger.json"
        self._copies = root / "var/lib/kexecwatchd/last-good"
        self._observer = Observer(root)
        self._executor = Executor(root, self._copies)
        self._ledger, trouble = ledger.read(self._ledger_path, kexec_state.boot_id(root))
        if trouble:
            decisions.trouble(trouble)
        try:
            # Where the early unit did not run in this boot; it never overwrites.
            bootmemory.record(root)
        except (OSError, ValueError) as error:
            told = without_addresses(str(error))
            decisions.trouble(f"what memory there was at boot cannot be recorded: {told}")
        # Copies of an earlier boot may have been cut short by a power failure.
        self._prune()
        self._saved: Ledger | None = None
        self._save_trouble = False
        self._overflow_told = False
        self._release = kexec_state.kernel_release(root)
        self._pacing = _pacing(config, self._ledger)
        self._changed: set[int] | None = None  # blocks to read afresh; None = all
        self._motion_looks = 0
        self._in_motion = False  # a removal is under way, and the next look is close
        self._next_look = 0.0
        self._looked_at = 0.0
        self._seen: Observation
        self._steps: tuple[Step, ...] = ()
        self.config_error = ""
        self._rounds = Rounds(
            checks,
            host=lambda: Host(root, in_force=self._config),
            tell=lambda: self._publish(self.status()),
        )
        self._timetable = Timetable()

    # What is so

    def status(self) -> Status:
        return summary.status(self._known())

    def details(self) -> Details:
        return summary.details(self._known())

    def _known(self) -> summary.Known:
        moment = now()
        due = {
            # Whole seconds: the same time is to read the same at every look.
            step.image: float(round(max(self._due(step), moment.boot) - moment.boot + moment.wall))
            for step in self._steps
            if step.action is not None
        }
        return summary.Known(
            seen=self._seen,
            ledger=self._ledger,
            steps=self._steps,
            modes={image: self._config.image(image).mode for image in ImageName},
            reboot=self._config.reboot,
            due=due,
            looked_at=self._looked_at,
            kernel_release=self._release,
            config_error=self.config_error,
            checks=self._rounds.results,
        )

    # When to work

    def deadline(self) -> float:
        """When `work` is to be called next, in CLOCK_BOOTTIME seconds, if nothing happens."""
        return min(self._work_due(), self._round_due())

    def _round_due(self) -> float:
        """The checks wait until nothing happens, and nothing is about to."""
        if self._in_motion or not self._pacing.settled():
            return math.inf
        return self._timetable.due()

    def _work_due(self) -> float:
        planned = [step for step in self._steps if step.action is not None]
        look_due = self._pacing.look_due()
        if look_due is not None:
            # A load waits until the events that have come are understood; a danger does not.
            planned = [step for step in planned if isinstance(step.action, Unload)]
        else:
            look_due = self._next_look
        return min([look_due, *(self._due(step) for step in planned)])

    def _due(self, step: Step) -> float:
        """When a planned action may be done; an unload waits for nothing but its last failure."""
        record = self._ledger.of(step.image)
        if isinstance(step.action, Unload):
            return record.next_unload
        endangers = isinstance(step.action, Load) and step.action.endangers
        # Loading now would put the image into memory that is about to go, or list it.
        settled = self._next_look if self._in_motion else 0.0
        return max(self._pacing.load_allowed(endangers), record.next_try, settled)

    # Working

    def look_at_everything(self) -> None:
        """Have the next look read every memory block, cached or not."""
        self._changed = None
        self._next_look = 0.0

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration; files that could not be loaded before get another chance."""
        self._config = config
        self._pacing.quiet = config.pacing.quiet
        self._pacing.max_wait = config.pacing.max_wait
        self._pacing.unarmed_budget = config.pacing.unarmed_budget
        for image in ImageName:
            if self._ledger.of(image).degraded:
                self._ledger = self._ledger.with_image(image, owed="the configuration was reloaded")
        self._ledger = bookkeeping.new_chance(bookkeeping.retry_now(self._ledger))
        self._executor.forget_failures()
        self.look_at_everything()
        self._timetable.soon()

    def check(self) -> asyncio.Future[None]:
        """Ask the checks now; done when the status has their answers."""
        self._timetable.begins(now().boot)
        return self._rounds.ask()

    async def work(self) -> None:
        """Take in what happened; look and act when it is time to."""
        await self._glance()
        moment = now().boot
        if moment < self._work_due():
            if moment >= self._round_due():
                self.check()
            return
        await self.look()
        step = self._ready_step()
        if step is not None and isinstance(step.action, Unload):
            await self._unload(step, step.action)
        elif step is not None and isinstance(step.action, Load):
            await self._load(step.image, step.action)

    def _ready_step(self) -> Step | None:
        """The next action that is due: unloads first, they end a danger."""
        moment = now().boot
        ready = [s for s in self._steps if s.action is not None and self._due(s) <= moment]
        return min(ready, key=lambda s: not isinstance(s.action, Unload), default=None)

    async def look(self, confirming: ImageName | None = None) -> None:
        """A full look, and what it means. `confirming`: the image that was just loaded."""
        self._absorb()
        moment = now()
        self._pacing.looked(moment.boot)
        changed, self._changed = self._changed, set()
        before = self._seen if confirming else None
        settings = self._config.reboot
        files = settings.files if settings.mode in (Mode.ENSURE, Mode.FOLLOW) else None
        self._seen = await asyncio.to_thread(self._observer.look, self._ledger, changed, files)
        book = self._ledger
        if confirming is not None and before is not None:
            book = bookkeeping.confirmed(book, confirming, before, self._seen)
        self._ledger = reconcile.recognise(self._seen, book)
        self._looked_at = moment.wall
        self._timetable.looked(self._seen, moment.boot)
        self._plan_next_look(moment.boot)
        self._conclude(moment)

    def _conclude(self, moment: Now) -> None:
        """Decide on what was seen; remember and tell it."""
        self._steps = reconcile.reconcile(self._seen, self._ledger, self._config)
        for step in self._steps:
            decisions.verdict(step, self._ledger.of(step.image))
        self._ledger = bookkeeping.with_states(self._ledger, self._steps, moment)
        if self._pacing.settled() and not any(step.action for step in self._steps):
            self._pacing.calm()
            self._overflow_told = False  # the next one is news again
        self._save()
        self._publish(self.status())

    def _plan_next_look(self, moment: float) -> None:
        self._in_motion = self._seen.in_motion() and self._motion_looks < MOTION_LOOKS
        if self._in_motion:
            self._motion_looks += 1
        self._next_look = moment + (MOTION_LOOK if self._in_motion else IDLE_LOOK)

    def _absorb(self) -> Iterable[int] | None:
        """Take in the uevents so far; returns the memory blocks that they name, None for all."""
        batch = self._events()
        if not batch:
            return ()
        moment = now().boot
        self._pacing.event(moment)
        self._timetable.event(moment)
        self._motion_looks = 0
        self._ledger = bookkeeping.retry_now(self._ledger)
        if batch.lost:
            if not self._overflow_told:
                decisions.trouble("uevents were lost: the socket overflowed; reading everything")
            self._overflow_told = True
            self._changed = None
            return None
        if self._changed is not None:
            self._changed |= batch.blocks
        return tuple(batch.blocks)

    async def _glance(self) -> None:
        """Unload a reboot image as soon as its memory goes, without waiting for quiet."""
        touched = self._absorb()
        if touched == () or not self._seen.reboot_loaded:
            return
        try:
            blocks = await asyncio.to_thread(self._observer.blocks, touched)
        except (OSError, ValueError):
            return  # the full look, which is close, says what is wrong
        glimpse = self._seen.with_blocks(blocks)
        steps = reconcile.reconcile(glimpse, self._ledger, self._config)
        step = next(s for s in steps if s.image is ImageName.REBOOT)
        if isinstance(step.action, Unload) and step.verdict.danger:
            await self._unload(step, step.action)

    async def _unload(self, step: Step, unload: Unload) -> None:
        record = self._ledger.of(step.image)
        error = await asyncio.to_thread(self._executor.unload, step.image)
        moment = now()
        if error:
            decisions.failed(step.image, "unload", error, record)
            self._ledger = bookkeeping.after_failed_unload(self._ledger, step.image, error, moment)
        else:
            decisions.unloaded(step.image, unload)
            owed = self._config.image(step.image).files is not None
            self._ledger = bookkeeping.after_unload(
                self._ledger, step.image, unload.why, owed, moment
            )
        await self.look()

    async def reload(self, image: ImageName) -> ImageStatus:
        """Load this image now because somebody asked for it. Raises Refused, LoadFailed."""
        settings = self._config.image(image)
        if settings.mode not in (Mode.ENSURE, Mode.FOLLOW):
            raise Refused(f"the {image} image has mode {settings.mode}: change [{image}] mode")
        self._changed = None
        await self.look()
        self._executor.forget_failures()
        self._ledger = bookkeeping.new_chance(self._ledger)
        load = reconcile.permitted(
            Load("it was asked for"), image, self._seen, self._ledger.of(image), settings
        )
        if isinstance(load, str):
            raise Refused(f"the {image} image cannot be loaded: {load}")
        failure = await self._load(image, load)
        if failure:
            raise LoadFailed(f"the {image} image could not be loaded: {failure}")
        return next(i for i in self.status().images if i.image is image)

    async def _load(self, image: ImageName, load: Load) -> str:
        """One load and its handshake; "" or what went wrong."""
        pair = reconcile.pair_of(self._config.image(image))
        assert pair is not None, "a load is planned only where files are configured"
        before = self._seen
        record = self._ledger.of(image)
        self._ledger = bookkeeping.intending(self._ledger, image, pair, before)
        self._save()
        async with self._loading():
            outcome = await asyncio.to_thread(
                self._executor.load,
                image,
                pair,
                record.last_good,
                before,
                load=load,
                refused_flags=self._ledger.refused_flags,
            )
        moment = now()
        if outcome.called:
            self._pacing.loaded(moment.boot, outcome.seconds)
        if outcome.succeeded:
            decisions.loaded(image, load, outcome)
        else:
            decisions.failed(image, "load", outcome.error, record)
        self._ledger = bookkeeping.after_load(
            self._ledger, image, pair, load, outcome=outcome, before=before, now=moment
        )
        self._save()
        if outcome.succeeded:
            self._prune()
        await self.look(confirming=image if outcome.succeeded else None)
        wrong = self._ledger.of(image).prediction is Prediction.DISAGREES
        if wrong and record.prediction is not Prediction.DISAGREES:
            decisions.trouble(
                f"the kernel put the {image} image elsewhere than it was predicted to; predictions"
                " count no longer until the next boot"
            )
        return outcome.error

    def _prune(self) -> None:
        kept = (self._ledger.crash.last_good, self._ledger.reboot.last_good)
        lastgood.prune(self._copies, kept)

    def _save(self) -> None:
        """Write the ledger down if it says something new; a full /run must not stop the work."""
        if self._ledger == self._saved:
            return
        try:
            ledger.write(self._ledger_path, self._ledger)
        except OSError as error:
            if not self._save_trouble:
                decisions.trouble(f"{self._ledger_path} cannot be written: {error.strerror}")
            self._save_trouble = True
        else:
            self._saved = self._ledger
            self._save_trouble = False


def _pacing(config: Config, book: Ledger) -> Pacing:
    """Pacing that remembers the last load of a daemon before this one."""
    pacing = Pacing(config.pacing.quiet, config.pacing.max_wait, config.pacing.unarmed_budget)
    loads = [r.last_load for r in (book.crash, book.reboot) if r.last_load is not None]
    if loads:
        last = max(loads, key=lambda load: load.ended)
        pacing.last_load_end, pacing.last_load_seconds = last.ended, last.seconds
    return pacing
