# SPDX-License-Identifier: GPL-2.0-or-later
"""What people ask of the engine, and what becomes of it. One thing after the other: the caller sees
to it that nothing here runs while the engine works.

`by` says who asks, for the history. What is raised is requests.py's.
"""

from __future__ import annotations

from kexecwatchd import deeds, engine, holds, reconcile
from kexecwatchd.addresses import without_addresses
from kexecwatchd.config import Config, ConfigError
from kexecwatchd.engine import Engine
from kexecwatchd.model import Action, ImageName, Load, Mode
from kexecwatchd.report import Hold, ImageStatus
from kexecwatchd.requests import Held, LoadFailed, Refused

ASKED = "it was asked for"


class Desk:
    """Takes the requests for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._book = engine.book

    async def reload(self, image: ImageName, by: str) -> ImageStatus:
        """Load this image now. Raises Refused, Held, LoadFailed."""
        settings = self._engine.config.image(image)
        if settings.mode not in (Mode.ENSURE, Mode.FOLLOW):
            raise Refused(
                f"the {image} image has mode {settings.mode}, which loads nothing; first say"
                f" kexecwatchctl mode {image} follow, or change mode in [{image}] of"
                " kexecwatchd.toml"
            )
        held = holds.obstacle(self._book.ledger)
        if held:
            raise Held(
                f"the {image} image is not loaded now: {held}; try again when that has ended,"
                " which kexecwatchctl status shows"
            )
        await self._fresh_look()
        self._engine.hands.give_new_chance()
        load = reconcile.permitted(
            Load(ASKED), image, self._engine.seen, self._book.ledger.of(image), settings
        )
        if isinstance(load, str):
            raise Refused(f"the {image} image cannot be loaded: {load}")
        outcome = await self._engine.load(self._engine.step(image), load, by)
        if not outcome.succeeded:
            raise LoadFailed(f"the {image} image could not be loaded: {outcome.error}")
        return self._engine.image_status(image)

    async def discard(self, image: ImageName, by: str) -> ImageStatus:
        """Unload this image, and leave it at that. Raises Refused, LoadFailed."""
        await self._fresh_look()
        settings = self._engine.config.image(image)
        record = self._book.ledger.of(image)
        obstacle = reconcile.obstacle_to_discard(image, self._engine.seen, record, settings)
        if obstacle:
            raise Refused(f"the {image} image is not discarded: {obstacle}")
        outcome = await self._engine.unload(self._engine.step(image), ASKED, by)
        if not outcome.succeeded:
            raise LoadFailed(f"the {image} image could not be discarded: {outcome.error}")
        return self._engine.image_status(image)

    async def set_mode(self, image: ImageName, mode: Mode | None, by: str) -> ImageStatus:
        """Have this mode until the next boot; None or the configured one ends that. Raises Refused.

        A mode that is in force already is no decision.
        """
        configured = self._engine.configured.image(image)
        if mode is Mode.ENSURE and configured.files is None:
            raise Refused(
                f"the {image} image cannot be kept loaded: no kernel is configured"
                f"{configured.none}; set kernel and cmdline in [{image}] of kexecwatchd.toml, and"
                " say systemctl reload kexecwatchd"
            )
        wanted = None if mode == configured.mode else mode
        if wanted != self._book.ledger.of(image).mode:
            why = f"mode {configured.mode} again, as configured"
            if wanted is not None:
                why = f"mode {wanted} until the next boot, instead of {configured.mode}"
            deed = deeds.begin(Action.SET_MODE, self._engine.step(image), why, engine.now(), by)
            self._book.ledger = self._book.ledger.with_image(image, mode=wanted)
            self._engine.look_at_everything()
            await self._engine.look(deed)
        return self._engine.image_status(image)

    async def hold(self, holder: str, who: str, why: str, by: str) -> int:
        """Load nothing until this is released. Raises TooManyHolds, Refused."""
        moment = engine.now()
        self._book.ledger, hold = holds.take(self._book.ledger, holder, who, why, moment.wall)
        told = f"held by {holds.described(hold)}: {reconcile.HELD_OFF}"
        self._book.decide(deeds.at_once(Action.HOLD, told, moment, by=by))
        self._engine.think_again()
        return hold.number

    async def release(self, holder: str, number: int, by: str) -> None:
        """End this hold of this holder. Raises NoSuchHold."""
        self._book.ledger, hold = holds.release(self._book.ledger, holder, number)
        self._ended([hold], "has released its hold", by)

    async def gone(self, holder: str) -> None:
        """End all holds of a holder whose connection has ended."""
        self._book.ledger, ended = holds.gone(self._book.ledger, holder)
        self._ended(ended, "ended, and its hold with it", "")

    def _ended(self, ended: list[Hold] | tuple[Hold, ...], how: str, by: str) -> None:
        moment = engine.now()
        for hold in ended:
            length = max(moment.wall - hold.since, 0.0)
            told = f"{holds.described(hold)} {how}, after {length:.0f} s"
            self._book.decide(deeds.at_once(Action.RELEASE, told, moment, by=by))
        if ended and not self._book.ledger.holds:
            self._engine.look_at_everything()
        if ended:
            self._engine.think_again()

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration."""
        modes = ", ".join(f"{image} {config.image(image).mode}" for image in ImageName)
        told = f"the configuration was read again and is in force: {modes}"
        self._book.decide(deeds.at_once(Action.CONFIGURE, told, engine.now()))
        self._engine.config_error = ""
        self._engine.configured_at = engine.now().wall
        self._engine.take(config)

    def recomplete(self, config: Config) -> None:
        """Take what the distribution's tool says now; what kexecwatchd.toml says is as it was."""
        if config == self._engine.configured:
            self._engine.configured = config  # the files to watch may be others
            return
        crash = config.crash
        told = f"is loaded from {crash.kernel} now" if crash.files else f"has no kernel{crash.none}"
        why = f"the settings of the distribution's kdump tool changed: the crash image {told}"
        self._book.decide(deeds.at_once(Action.CONFIGURE, why, engine.now()))
        self._engine.take(config)

    def refuse(self, error: ConfigError) -> None:
        """The new configuration is wrong: the old one stays in force."""
        told = without_addresses(str(error))
        self._engine.config_error = told
        why = "the configuration was to be read again"
        self._book.decide(deeds.at_once(Action.CONFIGURE, why, engine.now(), error=told))
        self._engine.look_at_everything()

    async def _fresh_look(self) -> None:
        self._engine.look_at_everything()
        await self._engine.look()
