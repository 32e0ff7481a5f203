# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchctl's own look, standing in for a daemon that does not answer. For root.

It decides as the daemon would, does nothing, and says that nobody does.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from kexecwatchd import bookkeeping, configured, ownlook, summary
from kexecwatchd.bookkeeping import Now
from kexecwatchd.config import Config, ConfigError, Sources
from kexecwatchd.ctl.client import AnswerError, UnreachableError
from kexecwatchd.kernel import kexec_state
from kexecwatchd.model import ImageName, Mode, Step
from kexecwatchd.ownlook import OwnLook
from kexecwatchd.reconcile import in_force, reconcile
from kexecwatchd.report import Details, Status

_NOBODY = "kexecwatchd does not do it"


def look(root: Path, silence: UnreachableError) -> tuple[Status, Details]:
    """What the daemon would tell of the machine below `root`. `silence`: why it does not.

    Raises AnswerError where the machine cannot be looked at.
    """
    config, config_error = _configured(root)
    # Somebody may want another mode than the configured one; where it would land is told anyhow.
    settings = config.reboot
    files = settings.files if settings.mode in (Mode.ENSURE, Mode.FOLLOW) else None
    moment = Now(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())
    try:
        own = ownlook.look(root, reboot_files=files)
        release = kexec_state.kernel_release(root)
    except (OSError, ValueError) as error:
        raise AnswerError(f"{_told(silence)}; nor can the machine be looked at: {error}") from error
    known = _known(own, config, moment, release, config_error)
    told = f"{_told(silence)}; nobody keeps the images so, kexecwatchctl has looked itself"
    problem = "; ".join(text for text in (told, own.seen.problem, own.trouble) if text)
    status = summary.status(known).model_copy(update={"daemon_version": "", "problem": problem})
    return status, summary.details(known)


def _configured(root: Path) -> tuple[Config, str]:
    """The configuration, or the defaults and why."""
    sources = Sources(root)
    try:
        return configured.read(sources), ""
    except ConfigError as error:
        trouble = f"{'; '.join(error.problems)}; until then the defaults count here"
        return configured.complete(Config(), sources), trouble


def _known(
    own: OwnLook, config: Config, moment: Now, release: str, config_error: str
) -> summary.Known:
    # Which holds have ended only the daemon finds out.
    ledger = own.known.model_copy(update={"holds": ()})
    force = in_force(config, ledger)
    steps = tuple(_idle(own, step) for step in reconcile(own.seen, ledger, force))
    return summary.Known(
        seen=own.seen,
        ledger=bookkeeping.with_states(ledger, steps, moment),
        steps=steps,
        modes={image: force.image(image).mode for image in ImageName},
        configured={image: config.image(image).mode for image in ImageName},
        reboot=force.reboot,
        due={},
        looked_at=moment.wall,
        kernel_release=release,
        config_error=config_error,
    )


def _idle(own: OwnLook, step: Step) -> Step:
    """The step, not taken."""
    held = f"{step.action.why}, but {_NOBODY}" if step.action else step.held
    verdict = own.honest(step.image, step.verdict)
    return replace(step, verdict=verdict, action=None, held=held)


def _told(silence: UnreachableError) -> str:
    """Its lines as one."""
    return "; ".join(" ".join(line.split()) for line in str(silence).splitlines())
