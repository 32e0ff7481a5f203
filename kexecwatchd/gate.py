# SPDX-License-Identifier: GPL-2.0-or-later
"""The last look before `systemctl kexec` jumps: kexecwatchd-kexec-check.service's program.

The daemon is stopped by then, and memory may have gone since; so this looks by itself, at what the
daemon left in its ledger. An image that must not be started is unloaded, upon which systemd reboots
through the firmware. Where it cannot be unloaded, exit code REFUSE has the unit force that.

Whatever goes wrong in here is no reason to stop a reboot: what cannot be judged is started, as it
would be without kexecwatchd. Standard output is the console: no addresses.
"""

from __future__ import annotations

from pathlib import Path

from kexecwatchd import ledger, reconcile, startcheck
from kexecwatchd.config import Config, ConfigError, Sources, load
from kexecwatchd.execute import Executor
from kexecwatchd.judge import judge
from kexecwatchd.kernel import kexec_state
from kexecwatchd.model import ImageName, Mode
from kexecwatchd.observe import Observer

START = 0
REFUSE = 3  # not 1, which is what Python itself ends with where it cannot run this


def main() -> int:
    try:
        return check(Path("/"))
    except Exception as error:
        # Not the message, which may have addresses in it.
        _say(f"the reboot image could not be checked ({type(error).__name__}); it is started")
        return START


def check(root: Path) -> int:
    """Look, and unload the reboot image if it must not be started. Returns the exit code."""
    config = _config(root)
    book, trouble = ledger.read(root / "run/kexecwatchd/ledger.json", kexec_state.boot_id(root))
    if trouble:
        _say(trouble)
    seen = Observer(root).look(book)
    if seen.reboot_loaded is False or (seen.reboot_loaded is None and not seen.problem):
        _say("no reboot image is loaded: this becomes a full reboot")
        return START
    book = reconcile.recognise(seen, book)
    verdict = judge(ImageName.REBOOT, seen, book.reboot)
    obstacle = startcheck.known_bad(verdict)
    if not obstacle:
        _say(f"kexec goes on: the reboot image is {verdict.state}: {verdict.reason}")
        return START
    mode = reconcile.in_force(config, book).reboot.mode
    if mode in (Mode.OFF, Mode.OBSERVE):
        _say(f"kexec goes on, since [reboot] mode is {mode}, although it will fail: {obstacle}")
        return START
    outcome = Executor(root, root / "var/lib/kexecwatchd/last-good").unload(ImageName.REBOOT)
    if not outcome.succeeded:
        _say(f"forcing a full reboot: {obstacle}")
        _say(f"the reboot image cannot be unloaded: {outcome.error}")
        return REFUSE
    _say(f"the reboot image was unloaded, this becomes a full reboot: {obstacle}")
    return START


def _config(root: Path) -> Config:
    """The configuration, or the defaults where it cannot be used."""
    try:
        return load(Sources(root))
    except ConfigError as error:
        _say(f"the defaults are used: {error.problems[0]}")
        return Config()


def _say(text: str) -> None:
    print(f"kexecwatchd: {text}", flush=True)
