# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's own look at the machine, for the checks: sizes and verdicts, no addresses.

It needs no daemon. What the daemon noted (its ledger, the memory of boot) counts where it is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecwatchd import avoid, hazards, ownlook
from kexecwatchd.addresses import without_addresses
from kexecwatchd.checks.host import CannotTell, Host, Source
from kexecwatchd.judge import judge
from kexecwatchd.model import Detour, ImageName, Observation, State


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on an image, as the daemon would have it now; `proof` as in model.Verdict."""

    image: ImageName
    loaded: bool
    state: State
    reason: str
    proof: str


@dataclass(frozen=True, slots=True)
class Look:
    """Sizes are bytes.

    `reserved`: for the crash image. `blocks`: there are memory blocks, so memory can come and go.
    `boot_known`: what was there at boot is known; where it is not, `hot_added` is 0. `usable`: what
    of the memory that can go away, or is offline, a loader would use: all but the driver-managed.
    `forecast`: where the configured reboot image would land: "" in memory that stays, else in which
    not, in words; None where that cannot be told. `lost`: why the next kernel would be told of
    memory that is gone, "" = it would not; None = not known. `obstacle`: why kexec-tools could not
    put a reboot image below all that can go away, "" = they can.
    """

    images: tuple[Judged, ...]
    reserved: int
    blocks: bool
    boot_known: bool
    movable: int
    driver_managed: int
    hot_added: int
    offline: int
    usable: int
    forecast: str | None
    lost: str | None
    obstacle: str


NOT_RECORDED = (
    "what was there at boot is not known: kexecwatchd-boot-memory.service did not run in this boot;"
    " systemctl status says why, and after the next boot it will be known"
)


def _look(host: Host) -> Look:
    files = host.config.reboot.files
    own = ownlook.look(host.root, host.machine, files)
    seen, known = own.seen, own.known
    if seen.map is None:
        raise CannotTell(seen.problem)
    verdicts = {
        image: own.honest(image, judge(image, seen, known.of(image))) for image in ImageName
    }
    hot_added = hazards.hot_added(seen)
    offline = seen.blocks.offline & seen.ram
    way = avoid.detour(seen, known.reboot)
    managed = seen.map.driver_managed
    return Look(
        images=tuple(
            Judged(
                image,
                bool(seen.loaded(image)),
                verdict.state,
                without_addresses(verdict.reason),
                verdict.proof,
            )
            for image, verdict in verdicts.items()
        ),
        reserved=seen.map.crash_regions.size,
        blocks=bool(seen.blocks.size),
        boot_known=seen.boot is not None,
        movable=seen.movable.size,
        driver_managed=managed.size,
        hot_added=hot_added.size,
        offline=offline.size,
        usable=((seen.movable | hot_added | offline) - managed).size,
        forecast=_forecast(seen),
        lost=_lost(seen),
        obstacle="" if isinstance(way, Detour) else without_addresses(way),
    )


def _forecast(seen: Observation) -> str | None:
    if seen.forecast is None:
        return None
    return hazards.describe(hazards.risks(seen.forecast.segments, seen))


def _lost(seen: Observation) -> str | None:
    if seen.boot is None or seen.boot.handed_on is None:
        return None
    return hazards.told_of_lost_memory(seen)


LOOK = Source("look", Look, _look)
