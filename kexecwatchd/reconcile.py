# SPDX-License-Identifier: GPL-2.0-or-later
"""What to do: observation + ledger + configuration -> plan. Pure: no I/O and no clock.

`recognise` first brings the ledger up to what the kernel shows (whose image is it, did an
interrupted load happen); `reconcile` then says, for each image, what is so, what to do, and when
nothing is done, why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kexecwatchd import avoid, hazards, holds, upgrades
from kexecwatchd.config import Config, ImageConfig, RebootConfig
from kexecwatchd.judge import describe, judge
from kexecwatchd.kernel.acpi_memory import NO_MEMORY_HOTPLUG
from kexecwatchd.ledger import INTERRUPTED, LOAD_FAILED, ImageRecord, Ledger, Pair
from kexecwatchd.model import (
    Detour,
    Drift,
    ImageFiles,
    ImageName,
    Load,
    Mode,
    Observation,
    State,
    Step,
    Unload,
    Verdict,
    WhenUnsafe,
)
from kexecwatchd.ondisk import OnDisk

# What ends the reason of a step that waits for the end of a hold.
HELD_OFF = "nothing is loaded until that ends"


def pair_of(config: ImageConfig) -> Pair | None:
    """The configured files in the ledger's terms, None when no kernel is configured."""
    if config.files is None:
        return None
    kernel, initrd, cmdline = config.files
    return Pair(kernel=str(kernel), initrd=str(initrd or ""), cmdline=cmdline)


def loadable(config: Config) -> dict[ImageName, ImageFiles]:
    """The files of the images that we may load."""
    return {
        image: settings.files
        for image, settings in ((image, config.image(image)) for image in ImageName)
        if settings.files is not None and settings.mode in (Mode.ENSURE, Mode.FOLLOW)
    }


def recognise(
    seen: Observation, ledger: Ledger, before: Mapping[ImageName, OnDisk] | None = None
) -> Ledger:
    """The ledger brought up to what the kernel holds now. `before`: the files at the look before,
    None where there was none."""
    for image in ImageName:
        record = _recognise(image, seen, ledger.of(image), (before or {}).get(image))
        ledger = ledger.model_copy(update={image.value: record})
    return ledger


def _recognise(
    image: ImageName, seen: Observation, record: ImageRecord, before: OnDisk | None
) -> ImageRecord:
    if seen.loaded(image) is None and seen.problem:
        return record  # what the kernel holds could not be read
    if not seen.loaded(image):
        return _forgotten(record)
    if record.intent is not None:
        record = _after_interruption(image, seen, record)
    if record.owed == LOAD_FAILED:
        # The old one outlived the failure; whether it is still right is another question.
        record = record.model_copy(update={"owed": ""})
    fingerprint = seen.fingerprint if image is ImageName.CRASH else ""
    disk = seen.on_disk.get(image)
    replaced = bool(record.fingerprint and fingerprint and record.fingerprint != fingerprint)
    if seen.map is not None and (record.ram is None or replaced):
        return upgrades.adopt(_first_sight(seen, record, fingerprint), disk, before)
    record = upgrades.adopt(record, disk, before)
    if image is ImageName.CRASH and seen.map is not None and seen.header is not None:
        return _read_back(seen, record, fingerprint)
    return record


def _read_back(seen: Observation, record: ImageRecord, fingerprint: str) -> ImageRecord:
    """What reading the crash image back teaches, for the day on which it cannot be read."""
    changes: dict[str, object] = {
        "fingerprint": record.fingerprint or fingerprint,
        # Drift that was gone in between is new when it comes back.
        "uncured": record.uncured.within(seen.drift),
    }
    if not seen.drift:
        changes |= {"ram": seen.ram, "online": seen.online}
    return record.model_copy(update=changes)


def _forgotten(record: ImageRecord) -> ImageRecord:
    """None is loaded: what we knew of the one that was is void."""
    owed = record.owed
    if record.intent is not None:
        owed = INTERRUPTED
    taken_away = record.ram is not None and not owed
    return record.model_copy(
        update={
            "ours": False,
            "last_error": "" if taken_away else record.last_error,
            "ram": None,
            "online": None,
            "placement": None,
            "below": None,
            "cma": False,
            "fingerprint": "",
            "intent": None,
            "owed": owed,
            "uncured": Drift(),
            "degraded": "",
        }
    )


def _after_interruption(image: ImageName, seen: Observation, record: ImageRecord) -> ImageRecord:
    """The daemon died during a load, and an image is loaded: ours, or the one from before.

    A crash image is dropped before the new one is read, so only an unchanged fingerprint means
    that the call never began. Where nothing tells the two apart (a reboot image, or a crash image
    that cannot be read back), it answers for the memory of both, and the load is owed again.
    """
    intent = record.intent
    assert intent is not None
    fingerprint = seen.fingerprint if image is ImageName.CRASH else ""
    if fingerprint and fingerprint == intent.fingerprint_before:
        return record.model_copy(update={"intent": None})
    return record.model_copy(
        update={
            "ours": True,
            "pair": intent.pair,
            "tried": intent.tried,
            "copied": False,
            "ram": intent.ram | (record.ram or intent.ram) | seen.ram,
            "online": intent.online | (record.online or intent.online) | seen.online,
            "placement": None,
            "below": None,
            "cma": False,
            "fingerprint": fingerprint,
            "intent": None,
            "owed": "" if fingerprint else INTERRUPTED,
            "uncured": Drift(),
            "degraded": "",
            "load_count": record.load_count + 1,
        }
    )


def _first_sight(seen: Observation, record: ImageRecord, fingerprint: str) -> ImageRecord:
    """Someone else loaded it: remember the map under which we first saw it."""
    return record.model_copy(
        update={
            "ours": False,
            "pair": None,
            "tried": None,
            "copied": False,
            "ram": seen.ram,
            "online": seen.online,
            "placement": None,
            "below": None,
            "cma": False,
            "fingerprint": fingerprint,
            "owed": "",
            "uncured": Drift(),
            "degraded": "",
            "failures": 0,
            "last_error": "",
            "next_try": 0.0,
        }
    )


def in_force(config: Config, ledger: Ledger) -> Config:
    """The configuration with the modes that somebody wants until the next boot."""
    for image in ImageName:
        mode = ledger.of(image).mode
        if mode is not None:
            changed = config.image(image).model_copy(update={"mode": mode})
            config = config.model_copy(update={image.value: changed})
    return config


def reconcile(seen: Observation, ledger: Ledger, config: Config) -> tuple[Step, ...]:
    """One step for each image, the crash image first. `config` is the one in force."""
    held = holds.obstacle(ledger)
    steps = (_step(image, seen, ledger.of(image), config.image(image)) for image in ImageName)
    return tuple(_without_loads(step, held) if held else step for step in steps)


def _without_loads(step: Step, held: str) -> Step:
    """The step while somebody holds: what ends a danger is done, all else waits.

    So an image in memory that can go, but is there, stays: none could be loaded in its place, and
    when its memory does go it is in danger and unloaded.
    """
    if step.action is None or step.verdict.danger:
        return step
    return replace(step, action=None, held=f"{held}: {HELD_OFF}")


def _step(image: ImageName, seen: Observation, record: ImageRecord, config: ImageConfig) -> Step:
    if config.mode is Mode.OFF:
        return Step(image, Verdict(State.UNKNOWN, "not watched (mode is off)"))
    verdict = judge(image, seen, record)
    if verdict.state is State.FAILED and config.mode is not Mode.ENSURE and not record.owed:
        # Somebody asked for a load and it failed; nothing is missing that the mode asks for.
        verdict = Verdict(State.ABSENT, "none is loaded")
    if config.mode is Mode.OBSERVE:
        return Step(image, verdict, held="mode is observe")
    if verdict.danger:
        return _unload(image, seen, verdict)
    wanted = _wanted(image, seen, record, config, verdict)
    if isinstance(wanted, Unload):
        return _unload(image, seen, verdict)
    passing = False
    if isinstance(wanted, str) and seen.loaded(image):
        disk = seen.on_disk.get(image)
        new = upgrades.wanted(record, disk)
        if new and (isinstance(new, Load) or not wanted):
            wanted, passing = new, disk is not None and disk.unfinished
    if isinstance(wanted, Load):
        wanted = permitted(wanted, image, seen, record, config)
    if isinstance(wanted, str):
        return Step(image, verdict, held=wanted, passing=passing)
    return Step(image, verdict, wanted)


def _unload(image: ImageName, seen: Observation, verdict: Verdict) -> Step:
    forbidden = _not_permitted(image, seen)
    if forbidden:
        return Step(image, verdict, held=f"it cannot be unloaded: {forbidden}")
    return Step(image, verdict, Unload(verdict.reason))


def permitted(
    load: Load, image: ImageName, seen: Observation, record: ImageRecord, config: ImageConfig
) -> Load | str:
    """The load, by the way that is safe for it; or why it is not done."""
    obstacle = obstacle_to_load(image, seen, config)
    if obstacle:
        return obstacle
    pair = pair_of(config)
    if isinstance(config, RebootConfig) and pair is not None:
        return avoid.route(load, pair, seen, record, config.when_unsafe)
    return load


def _wanted(
    image: ImageName,
    seen: Observation,
    record: ImageRecord,
    config: ImageConfig,
    verdict: Verdict,
) -> Load | Unload | str:
    """What the verdict calls for, or why nothing is done ("" when all is well)."""
    if verdict.state in (State.ABSENT, State.FAILED):
        why = record.owed or ("its mode is ensure" if config.mode is Mode.ENSURE else "")
        if not why:
            return ""
        # Without a crash image the machine is unarmed as it is: a load cannot make that worse.
        return Load(why, endangers=image is ImageName.CRASH)
    if isinstance(config, RebootConfig):
        if verdict.state is State.UNSAFE:
            return _better_place(seen, record, config, verdict)
        if verdict.state is State.UNKNOWN and record.ours and pair_of(config) is not None:
            # Where it lies is not known; kexec-tools would say.
            way = avoid.detour(seen, record) if hazards.unsafe_memory(seen) else ""
            if isinstance(way, Detour):
                return Load(f"{verdict.reason}; by kexec-tools, which say where", detour=way)
    if record.owed:
        return Load(record.owed)
    other = _other(image, seen, record, config)
    if isinstance(other, Load):
        return other
    if verdict.state is State.STALE:
        fresh = verdict.drift.beyond(record.uncured)
        if not fresh:
            return "our last load did not cure this, so loading again would not either"
        return Load(describe(fresh), endangers=bool(fresh.extra))
    if verdict.state is State.UNSAFE and image is ImageName.CRASH:
        if not record.ours and config.cmdline and NO_MEMORY_HOTPLUG in config.cmdline.split():
            return Load(f"the command line of someone else's lacks {NO_MEMORY_HOTPLUG}")
        return f"add {NO_MEMORY_HOTPLUG} to [crash] cmdline and reload the configuration"
    return other


def _other(
    image: ImageName, seen: Observation, record: ImageRecord, config: ImageConfig
) -> Load | str:
    """What a configuration calls for that names other files; or why they are waited for, "" = they
    are those that are loaded."""
    if not record.ours or config.files is None or record.pair == pair_of(config):
        return ""
    why = "the configuration names another kernel, initrd or command line"
    awaited = upgrades.not_ready(seen.on_disk.get(image))
    return f"{why}; {awaited}" if awaited else Load(why)


def _better_place(
    seen: Observation, record: ImageRecord, config: RebootConfig, verdict: Verdict
) -> Load | Unload | str:
    """For a reboot image in memory that can go away, but is there now."""
    pair = pair_of(config)
    if pair is not None:
        if avoid.known_safe(pair, seen, record):
            return Load(verdict.reason)
        if avoid.cma_may_help(seen, record) and not record.cma:
            return Load(verdict.reason, cma=True)
        way = avoid.detour(seen, record)
        if isinstance(way, Detour):
            if record.failures and config.when_unsafe is WhenUnsafe.REFUSE:
                return Unload(verdict.reason)  # it did not help at once; it is tried again
            return Load(f"{verdict.reason}; by kexec-tools, elsewhere", detour=way)
    if config.when_unsafe is WhenUnsafe.GUARD:
        return "kept, as when_unsafe asks: it is unloaded the moment its memory goes offline"
    return Unload(verdict.reason)


def obstacle_to_discard(
    image: ImageName, seen: Observation, record: ImageRecord, config: ImageConfig
) -> str:
    """Why an image is not unloaded although somebody wants that; "" when nothing speaks against
    it. A hold is no reason: what was held off is loading. One that is about to be loaded is
    discarded too; to the kernel, unloading none is no error."""
    if config.mode is Mode.ENSURE:
        return (
            "its mode is ensure, and another would be loaded at once; first say kexecwatchctl mode"
            f" {image} follow"
        )
    if config.mode is not Mode.FOLLOW:
        return f"its mode is {config.mode}, which touches nothing"
    if seen.loaded(image) is None:
        return seen.problem or "this kernel has no kexec support"
    if not seen.loaded(image) and not record.owed:
        return "none is loaded"
    return _not_permitted(image, seen)


def obstacle_to_load(image: ImageName, seen: Observation, config: ImageConfig) -> str:
    """What is already known to make any load fail or be wrong; "" when nothing is.

    Asked before every call, because for the crash image the kernel drops the old one before it
    looks at anything but its own permissions (kexec_file_load in kernel/kexec_file.c).
    """
    if seen.loaded(image) is None:
        return seen.problem or "this kernel has no kexec support"
    if config.files is None:
        return f"no kernel is configured ([{image.value}] kernel in kexecwatchd.toml){config.none}"
    if seen.map is None:
        return seen.problem
    if image is ImageName.CRASH and not seen.map.crash_regions:
        return "no memory is reserved for it: boot with crashkernel="
    return _not_permitted(image, seen)


def _not_permitted(image: ImageName, seen: Observation) -> str:
    """What forbids every load and unload (kexec_load_permitted() in kernel/kexec_core.c)."""
    limit = seen.limit_panic if image is ImageName.CRASH else seen.limit_reboot
    if seen.load_disabled:
        return "kernel.kexec_load_disabled is 1, and stays so until the next boot"
    if limit == 0:
        name = "panic" if image is ImageName.CRASH else "reboot"
        return f"kernel.kexec_load_limit_{name} is used up until the next boot"
    return ""
