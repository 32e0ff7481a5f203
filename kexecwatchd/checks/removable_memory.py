# SPDX-License-Identifier: GPL-2.0-or-later
"""Could a reboot image get into memory that can go away?

Sources: kexec_add_buffer() in kernel/kexec_file.c, which looks neither at the zone nor at whether
memory is online, and reserves nothing; kexecwatchd/hazards.py; "kexec/memory_hotplug: Prevent
removal and accidental use" (March 2020).
"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources import bootfiles, daemon
from kexecwatchd.checks.sources.look import LOOK, NOT_RECORDED, Look
from kexecwatchd.kernel import kexec_state
from kexecwatchd.model import ImageName, WhenUnsafe
from kexecwatchd.sizes import human

_WHAT_IT_IS = (
    "A reboot image is copied to its place only when it is started. Until then nothing keeps that"
    " memory there, and whoever loads it does not ask: since 6.8 the kernel takes the highest"
    " memory, which is what was added last."
)
_CONFIGURE = (
    "Have kexecwatchd load it, which keeps it out of there: kernel, initrd and cmdline in [reboot]"
    ' of kexecwatchd.toml with mode = "follow" or "ensure", and systemctl enable --now kexecwatchd.'
    " By hand: kexec -c -l with --mem-max= below the memory that kexecwatchctl map shows as"
    " hot-added or movable."
)


def look(host: Host) -> Finding:
    seen = host.ask(LOOK)
    if kexec_state.read(host.root).reboot_loaded is None:
        return Finding(Answer.NOT_APPLICABLE, "this kernel can hold no reboot image")
    facts: dict[str, Fact] = {
        "movable_bytes": seen.movable,
        "hot_added_bytes": seen.hot_added,
        "offline_bytes": seen.offline,
        "driver_managed_bytes": seen.driver_managed,
    }
    if not seen.blocks:
        return Finding(
            Answer.NOT_APPLICABLE, "this kernel has no memory hotplug: no memory can go away"
        )
    if not seen.usable:
        return _nothing_to_hit(seen, facts)
    if seen.forecast == "":
        return Finding(
            Answer.OK,
            f"no: {human(seen.usable)} can go away or are offline, but the configured image would"
            " not go there",
            _WHAT_IT_IS,
            facts=facts,
        )
    return _may_hit(host, seen, facts)


def _nothing_to_hit(seen: Look, facts: dict[str, Fact]) -> Finding:
    if not seen.boot_known:
        raise CannotTell(NOT_RECORDED)
    if seen.driver_managed:
        return Finding(
            Answer.OK,
            f"no: {human(seen.driver_managed)} belong to a driver that can take them away, and no"
            " loader uses these",
            facts=facts,
        )
    return Finding(Answer.OK, "no: all of the memory is there to stay", facts=facts)


def _may_hit(host: Host, seen: Look, facts: dict[str, Fact]) -> Finding:
    would = f"the kernel would put {seen.forecast}" if seen.forecast else "an image may land there"
    if not daemon.tends(host, ImageName.REBOOT):
        return Finding(
            Answer.WARNING,
            f"yes: {human(seen.usable)} can go away or are offline, and {would}",
            _WHAT_IT_IS,
            _CONFIGURE,
            facts,
        )
    if not seen.obstacle:
        return Finding(
            Answer.OK,
            f"no: {would}, but kexecwatchd puts it elsewhere",
            _WHAT_IT_IS,
            facts=facts,
        )
    if host.config.reboot.when_unsafe is WhenUnsafe.GUARD:
        then = "would be unloaded when it does"
    else:
        then = "is not loaded there by kexecwatchd"
    return Finding(
        Answer.WARNING,
        f"{human(seen.usable)} can go away or are offline; {would}, and it {then}",
        f"{_WHAT_IT_IS} kexecwatchd cannot put it elsewhere: {seen.obstacle}.",
        "Install kexec-tools, or see to what keeps them from loading; or take the memory away"
        " before the image is loaded.",
        facts,
    )


CHECK = Check(
    name="removable-memory",
    question="Could a reboot image get into memory that can go away?",
    look=look,
    answers=frozenset({Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    cheap=False,  # the daemon judges each load by itself
    files=(*daemon.FILES, *bootfiles.LOADED),
    asks=(LOOK,),
)
