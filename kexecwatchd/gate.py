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
    if seen.reboot_loaded is False:
        _say("no reboot image is loaded: this becomes a full reboot")
        return START
    book = reconcile.recognise(seen, book)
    verdict = judge(ImageName.REBOOT, seen, book.reboot)
    obstacle = startcheck.known_bad(verdict, config.reboot)
    if not obstacle:
        _say(f"the reboot image is started; it is {verdict.state}: {verdict.reason}")
        return START
    mode = config.reboot.mode
    if mode in (Mode.OFF, Mode.OBSERVE):
        _say(f"the reboot image should not be started: {obstacle}")
        _say(f"it is started all the same: [reboot] mode is {mode}")
        return START
    error = Executor(root, root / "var/lib/kexecwatchd/last-good").unload(ImageName.REBOOT)
    if error:
        _say(f"the reboot image must not be started: {obstacle}; it cannot be unloaded ({error})")
        _say("forcing a full reboot")
        return REFUSE
    _say(f"the reboot image was unloaded: {obstacle}; this becomes a full reboot")
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
