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
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from kexecwatchd import bookkeeping, bootmemory, decisions, deeds, pacing, reconcile, summary
from kexecwatchd.addresses import without_addresses
from kexecwatchd.book import Book
from kexecwatchd.bookkeeping import Now
from kexecwatchd.checks.check import Check
from kexecwatchd.checks.host import Host
from kexecwatchd.config import Config
from kexecwatchd.deeds import Deed
from kexecwatchd.execute import Outcome
from kexecwatchd.hands import Hands
from kexecwatchd.imagefiles import ImageFilesWatch
from kexecwatchd.kernel import kexec_state
from kexecwatchd.ledger import Prediction
from kexecwatchd.model import Action, Blocks, ImageName, Load, Mode, Observation, Step, Unload
from kexecwatchd.observe import Observer
from kexecwatchd.report import Decision, Details, ImageStatus, Status
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
    """Keeps both images right. `events` hands over the uevents since it was last called, `decided`
    hears each decision, and each load is made inside `loading()`. `checks`: the questions to ask
    when there is time. `files` watches what images are loaded from.

    `configured` is the configuration as it was read, `config` the one in force, `seen` and `steps`
    are the last look and what it means, `hands` what carries that out.
    """

    def __init__(
        self,
        root: Path,
        config: Config,
        events: Callable[[], Batch],
        publish: Callable[[Status], None],
        files: ImageFilesWatch,
        *,
        decided: Callable[[Decision], None],
        loading: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext,
        checks: Iterable[Check] = CHEAP,
    ) -> None:
        self.configured = config
        self._events = events
        self._publish = publish
        self._files = files
        self._observer = Observer(root)
        boot_id = kexec_state.boot_id(root)
        self.book = Book(root / "run/kexecwatchd/ledger.json", boot_id, decided)
        self.hands = Hands(root, self.book, now, loading)
        try:
            # Where the early unit did not run in this boot; it never overwrites.
            bootmemory.record(root)
        except (OSError, ValueError) as error:
            told = without_addresses(str(error))
            decisions.trouble(f"what memory there was at boot cannot be recorded: {told}")
        self._overflow_told = False
        self._release = kexec_state.kernel_release(root)
        self._pacing = pacing.resumed(config.pacing, self.book.ledger)
        self._changed: set[int] | None = None  # blocks to read afresh; None = all
        self._motion_looks = 0
        self._in_motion = False  # a removal is under way, and the next look is close
        self._next_look = 0.0
        self._looked_at = 0.0
        self._busy: summary.Busy | None = None
        self.seen = Observation(None, Blocks(0, {}), crash_loaded=None, reboot_loaded=None)
        self.steps: tuple[Step, ...] = ()
        self.config_error = ""
        self.configured_at = now().wall
        self._rounds = Rounds(
            checks,
            host=lambda: Host(root, in_force=self.config),
            tell=lambda: self._publish(self.status()),
        )
        self._timetable = Timetable()

    # What is so

    @property
    def config(self) -> Config:
        return reconcile.in_force(self.configured, self.book.ledger)

    def step(self, image: ImageName) -> Step:
        return next(step for step in self.steps if step.image is image)

    def status(self) -> Status:
        return summary.status(self._known())

    def image_status(self, image: ImageName) -> ImageStatus:
        return next(i for i in self.status().images if i.image is image)

    def details(self) -> Details:
        return summary.details(self._known())

    def _known(self) -> summary.Known:
        moment = now()
        config = self.config
        due = {
            # Whole seconds: the same time is to read the same at every look.
            step.image: float(round(max(self._due(step), moment.boot) - moment.boot + moment.wall))
            for step in self.steps
            if step.action is not None
        }
        return summary.Known(
            seen=self.seen,
            ledger=self.book.ledger,
            steps=self.steps,
            modes={image: config.image(image).mode for image in ImageName},
            configured={image: self.configured.image(image).mode for image in ImageName},
            reboot=config.reboot,
            due=due,
            looked_at=self._looked_at,
            kernel_release=self._release,
            configured_at=self.configured_at,
            config_error=self.config_error,
            busy=self._busy,
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
        planned = [step for step in self.steps if step.action is not None]
        look_due = self._pacing.look_due()
        if look_due is not None:
            # A load waits until the events that have come are understood; a danger does not.
            planned = [step for step in planned if isinstance(step.action, Unload)]
        else:
            look_due = self._next_look
        return min([look_due, self._files.due, *(self._due(step) for step in planned)])

    def _due(self, step: Step) -> float:
        """When a planned action may be done; an unload waits for nothing but its last failure."""
        record = self.book.ledger.of(step.image)
        if isinstance(step.action, Unload):
            return record.next_unload
        endangers = isinstance(step.action, Load) and step.action.endangers
        # Loading now would put the image into memory that is about to go, or list it.
        settled = self._next_look if self._in_motion else 0.0
        return max(self._pacing.load_allowed(endangers), record.next_try, settled)

    # Working

    async def start(self) -> None:
        """The first look. A load that the daemon before this one was killed in is told, once."""
        self._take_back_modes()
        before = self.book.ledger
        moment = await self._see()
        after = self.book.ledger
        broken_off = [
            deeds.cut_short(step, before.of(step.image), after.of(step.image), moment)
            for step in reconcile.reconcile(self.seen, after, self.config)
            if before.of(step.image).intent is not None
        ]
        self._conclude(moment, broken_off)

    def look_at_everything(self) -> None:
        """Have the next look read every memory block, cached or not."""
        self._changed = None
        self._next_look = 0.0

    def take(self, config: Config) -> None:
        """Take a new configuration; files that could not be loaded before get another chance."""
        self.configured = config
        self._pacing.take(config.pacing)
        for image in ImageName:
            if self.book.ledger.of(image).degraded:
                self.book.ledger = self.book.ledger.with_image(
                    image, owed="the configuration was reloaded"
                )
        self.book.ledger = bookkeeping.retry_now(self.book.ledger)
        self.hands.give_new_chance()
        self._take_back_modes()
        self.look_at_everything()
        self._timetable.soon()

    def _take_back_modes(self) -> None:
        """What somebody wanted is void where there is nothing to load any more."""
        for image in ImageName:
            wanted = self.book.ledger.of(image).mode
            configured = self.configured.image(image)
            if wanted is Mode.ENSURE and configured.files is None:
                self.book.ledger = self.book.ledger.with_image(image, mode=None)
                why = f"mode {configured.mode} again: the configuration names no kernel any more"
                self.book.decide(deeds.at_once(Action.SET_MODE, why, now(), image=image))

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
            await self.unload(step, step.action.why)
        elif step is not None and isinstance(step.action, Load):
            await self.load(step, step.action)

    def _ready_step(self) -> Step | None:
        """The next action that is due: unloads first, they end a danger."""
        moment = now().boot
        ready = [s for s in self.steps if s.action is not None and self._due(s) <= moment]
        return min(ready, key=lambda s: not isinstance(s.action, Unload), default=None)

    async def look(self, deed: Deed | None = None) -> None:
        """A full look, and what it means. `deed`: what was just done, and is told after it."""
        loaded = deed is not None and deed.decision.action is Action.LOAD
        confirming = deed.decision.image if deed and loaded and deed.decision.succeeded else None
        moment = await self._see(confirming)
        self._conclude(moment, [deed] if deed else [])

    async def _see(self, confirming: ImageName | None = None) -> Now:
        """Look, and take in what that says of the ledger. `confirming`: this image was just loaded.

        Returns when the look began.
        """
        self._absorb()
        moment = now()
        self._pacing.looked(moment.boot)
        changed, self._changed = self._changed, set()
        before = self.seen if confirming else None
        on_disk = self.seen.on_disk
        self.seen = await asyncio.to_thread(self._look, changed, moment.boot)
        self._files.tell()
        book = bookkeeping.new_files(self.book.ledger, on_disk, self.seen.on_disk)
        if confirming is not None and before is not None:
            book = bookkeeping.confirmed(book, confirming, before, self.seen)
        self.book.ledger = reconcile.recognise(self.seen, book, on_disk)
        self._looked_at = moment.wall
        self._timetable.looked(self.seen, moment.boot)
        self._plan_next_look(moment.boot)
        return moment

    def _look(self, changed: Iterable[int] | None, moment: float) -> Observation:
        """The look itself, which blocks: first the machine, then the files of what we may load."""
        ledger, files = self.book.ledger, reconcile.loadable(self.config)
        seen = self._observer.look(ledger, changed, files.get(ImageName.REBOOT))
        return replace(seen, on_disk=self._files.look(files, seen, ledger, moment))

    def think_again(self) -> None:
        """Decide anew on what was seen last, since somebody wants something else."""
        self._conclude(now(), [])

    def _conclude(self, moment: Now, done: Sequence[Deed]) -> None:
        """Decide on what was seen; remember and tell it, and what was done before it."""
        self._busy = None
        self.steps = reconcile.reconcile(self.seen, self.book.ledger, self.config)
        for step in self.steps:
            deed = next((d for d in done if d.decision.image is step.image), None)
            self._tell(step, deed)
        self.book.ledger = bookkeeping.with_states(self.book.ledger, self.steps, moment)
        if self._pacing.settled() and not any(step.action for step in self.steps):
            self._pacing.calm()
            self._overflow_told = False  # the next one is news again
        self.book.save()
        self._publish(self.status())

    def _tell(self, step: Step, deed: Deed | None) -> None:
        """What was done, with its end; or a verdict, where it is new and nothing is done now."""
        moment = now()
        record = self.book.ledger.of(step.image)
        endangers = isinstance(step.action, Load) and step.action.endangers
        turn = self._pacing.load_allowed(endangers)
        waits = deeds.waiting(step, record, turn, moment.boot)
        news = deeds.news(step, waits, record, settled=self._pacing.settled())
        if deed is not None:
            self.book.decide(deed.seen(step, waits, moment))
            news = deeds.told_by(step, waits)
        elif news is not None:
            self.book.decide(deeds.verdict(step, waits, moment))
        if news is not None:
            self.book.ledger = self.book.ledger.with_image(step.image, told=news)

    def _plan_next_look(self, moment: float) -> None:
        self._in_motion = self.seen.in_motion() and self._motion_looks < MOTION_LOOKS
        if self._in_motion:
            self._motion_looks += 1
        self._next_look = moment + (MOTION_LOOK if self._in_motion else IDLE_LOOK)

    def _absorb(self) -> Iterable[int] | None:
        """Take in the uevents so far; returns the memory blocks that they name, None for all."""
        moment = now().boot
        self._files.listen(moment)
        batch = self._events()
        if not batch:
            return ()
        self._pacing.event(moment)
        self._timetable.event(moment)
        self._motion_looks = 0
        self.book.ledger = bookkeeping.retry_now(self.book.ledger)
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
        if touched == () or not self.seen.reboot_loaded:
            return
        try:
            blocks = await asyncio.to_thread(self._observer.blocks, touched)
        except (OSError, ValueError):
            return  # the full look, which is close, says what is wrong
        glimpse = self.seen.with_blocks(blocks)
        steps = reconcile.reconcile(glimpse, self.book.ledger, self.config)
        step = next(s for s in steps if s.image is ImageName.REBOOT)
        if isinstance(step.action, Unload) and step.verdict.danger:
            await self.unload(step, step.action.why)

    async def unload(self, step: Step, why: str, by: str = "") -> Outcome:
        """Unload the image and look again. `by`: somebody wants that, and no other in its place."""
        self._begins(step.image, Action.DISCARD if by else Action.UNLOAD)
        config = self.config.image(step.image)
        outcome, deed = await self.hands.unload(step, why, config, by)
        await self.look(deed)
        return outcome

    async def load(self, step: Step, load: Load, by: str = "") -> Outcome:
        """One load and its handshake. `by`: who asked for it."""
        image = step.image
        prediction = self.book.ledger.of(image).prediction
        self._begins(image, Action.LOAD)
        config = self.config.image(image)
        outcome, deed = await self.hands.load(step, load, self.seen, config, by)
        if outcome.called:
            self._pacing.loaded(now().boot, outcome.seconds)
        await self.look(deed)
        wrong = self.book.ledger.of(image).prediction is Prediction.DISAGREES
        if wrong and prediction is not Prediction.DISAGREES:
            decisions.trouble(
                f"the kernel put the {image} image elsewhere than it was predicted to; predictions"
                " count no longer until the next boot"
            )
        return outcome

    def _begins(self, image: ImageName, action: Action) -> None:
        """Let everyone see what is being done; the look that follows it ends that."""
        self._busy = summary.Busy(image, action, now().wall)
        self._publish(self.status())
