# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's rounds: when the daemon asks the cheap checks, and the asking itself.

A round runs beside the engine, in a thread of its own: it only reads, so no load or unload ever
waits for it. A check may hang (what it reads can lie on a network file system whose server is
gone), and then costs its answer and nothing else. The thread is none of asyncio's pool: that is
waited for when the daemon ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kexecwatchd import decisions
from kexecwatchd.checks import doctor
from kexecwatchd.checks.check import Answer, Check, Finding
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.model import Observation
from kexecwatchd.ondisk import OnDisk
from kexecwatchd.report import CheckResult

log = logging.getLogger(__name__)

CHEAP = tuple(check for check in CHECKS if check.cheap)

# Seconds without a change or an event before a round that a change calls for: memory comes and goes
# block by block, and all of that is one change.
CALM = 5.0

# Seconds between rounds when nothing is seen to change. Sysctls, files and free space change
# without an event, but at the pace of people and packages.
INTERVAL = 300.0

# Seconds. Less than callers on the bus wait for an answer (25 for sd-bus and libdbus), so that
# whoever asks for a round that hangs is told so.
LIMIT = 20.0


@dataclass(slots=True)
class Timetable:
    """When a round is due. All times are seconds of one monotonic clock."""

    began: float | None = None
    changed: float | None = None
    seen: Observation | None = None

    def looked(self, seen: Observation, now: float) -> None:
        """A look has seen this: a change calls for a round, but not that a file is quiet now."""
        on_disk = {image: OnDisk(disk.signatures) for image, disk in seen.on_disk.items()}
        seen = replace(seen, on_disk=on_disk)
        if seen != self.seen:
            self.seen = seen
            self.changed = now

    def event(self, now: float) -> None:
        """Something happens: the round that a change calls for waits until it is over."""
        if self.changed is not None:
            self.changed = now

    def soon(self) -> None:
        """A round is wanted without waiting for calm."""
        self.began = None

    def begins(self, now: float) -> None:
        """A round begins, and will see all that has changed so far."""
        self.began = now
        self.changed = None

    def due(self) -> float:
        """When a round is due; a change that goes on and on does not put it off for ever."""
        if self.began is None:
            return 0.0
        regular = self.began + INTERVAL
        return regular if self.changed is None else min(self.changed + CALM, regular)


class Rounds:
    """Goes the rounds, never two at once; belongs to the event loop's thread.

    `host()` is the machine of now; `tell()` is called when there are new `results`.
    """

    def __init__(
        self, checks: Iterable[Check], host: Callable[[], Host], tell: Callable[[], None]
    ) -> None:
        self.results: tuple[CheckResult, ...] = ()
        self._checks = tuple(checks)
        self._host = host
        self._tell = tell
        self._next: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._hangs = False

    def ask(self) -> asyncio.Future[None]:
        """Go a round that begins after this call; done when its answers are in `results`.

        Calls before it begins share it. While a check hangs there is none, and nothing to wait for.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._hangs:
                self._next.set_result(None)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._go())
        return self._next

    async def _go(self) -> None:
        while self._next is not None:
            asked, self._next = self._next, None
            answers: list[CheckResult] = []
            try:
                ended = self._begin(answers)
                try:
                    async with asyncio.timeout(LIMIT):
                        await ended.wait()
                except TimeoutError:
                    self._hangs = True
                known = list(answers)  # the thread may go on
                self._take([*known, *_unanswered(self._checks[len(known) :])])
            except Exception:
                log.exception("the checks could not be asked")
            finally:
                # A round that does not come about (no thread to be had) keeps nobody waiting.
                if not asked.done():
                    asked.set_result(None)
            if self._hangs:
                await ended.wait()
                self._hangs = False
                # What it would tell by now is old.
                self.ask()

    def _begin(self, answers: list[CheckResult]) -> asyncio.Event:
        """Have a thread ask all checks, one after the other; the event is set when it ends."""
        loop = asyncio.get_running_loop()
        host = self._host()
        ended = asyncio.Event()

        def ask_all() -> None:
            try:
                for check in self._checks:
                    answers.extend(doctor.ask(host, [check]))
            finally:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=ask_all, name="checks", daemon=True).start()
        return ended

    def _take(self, results: Iterable[CheckResult]) -> None:
        self.results = tuple(results)
        decisions.answered(self.results)
        self._tell()


def _unanswered(checks: tuple[Check, ...]) -> Iterable[CheckResult]:
    """In the place of answers that did not come: the first of these hangs."""
    for check in checks:
        why = (
            f"no answer within {LIMIT:.0f} s: does what it reads lie on a network file system?"
            if check is checks[0]
            else f"not asked: the check {checks[0].name} hangs"
        )
        yield doctor.result(check, Finding(Answer.CANNOT_TELL, why))
