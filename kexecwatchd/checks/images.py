# SPDX-License-Identifier: GPL-2.0-or-later
"""Are the images that are loaded right? The verdicts that the daemon has, by a look of our own.

Sources: kexecwatchd/judge.py. A crash image is held against the machine by its elfcorehdr
(crash_prepare_elf64_headers() in kernel/crash_core.c), a reboot image by where its segments are to
go; "kexec/memory_hotplug: Prevent removal and accidental use" (March 2020) tells of both.
"""

from __future__ import annotations

from collections.abc import Mapping

from kexecwatchd.checks.check import Answer, Check, Finding
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.checks.sources.look import LOOK, Judged, Look
from kexecwatchd.model import ImageName, Mode, State

_ANSWERS = {
    State.CURRENT: Answer.OK,
    State.STALE: Answer.PROBLEM,
    State.UNSAFE: Answer.PROBLEM,
    State.FAILED: Answer.PROBLEM,
    State.UNKNOWN: Answer.CANNOT_TELL,
}

_WHAT_IT_IS = (
    "A crash image has a list of all memory, made when it was loaded; a dump has what is on that"
    " list, and can hang on memory that is no longer there. A reboot image is copied to places that"
    " were chosen when it was loaded; nothing keeps that memory there, and the machine hangs or"
    " resets when it is gone."
)
_ABSENT = (
    "Load one: kdump-config load (Debian), kdumpctl start (Fedora), systemctl restart kdump (SUSE)."
)
_WRONG = (
    "Load it again (kexecwatchctl status says why kexecwatchd did not), or unload it: kexec -p -u"
    " for the crash image, kexec -u for the reboot image."
)
_BY_ITSELF = (
    ' Or have kexecwatchd do it: mode = "ensure", kernel and cmdline in [crash] or [reboot] of'
    " /etc/kexecwatchd/kexecwatchd.toml."
)


def look(host: Host) -> Finding:
    seen = host.ask(LOOK)
    answers = {judged: _answer(host, judged, seen) for judged in seen.images}
    facts = {j.image.value: {"state": j.state.value, "proof": j.proof} for j in seen.images}
    told = [j for j in seen.images if answers[j] is not Answer.NOT_APPLICABLE]
    if not told:
        return Finding(
            Answer.NOT_APPLICABLE, "no image is loaded, and none is asked for", facts=facts
        )
    worst = min((answers[j] for j in told), key=list(Answer).index)
    words = "; ".join(f"{j.image.value} image {j.state.value}: {j.reason}" for j in told)
    return Finding(worst, words, _WHAT_IT_IS, _remedy(answers), facts)


def _remedy(answers: Mapping[Judged, Answer]) -> str:
    wrong = [judged for judged, answer in answers.items() if answer is Answer.PROBLEM]
    if not wrong:
        return ""
    absent = all(judged.state is State.ABSENT for judged in wrong)
    return (_ABSENT if absent else _WRONG) + _BY_ITSELF


def _answer(host: Host, judged: Judged, seen: Look) -> Answer:
    if judged.state is not State.ABSENT:
        return _ANSWERS[judged.state]
    mode = host.config.image(judged.image).mode
    reserved = judged.image is ImageName.CRASH and seen.reserved > 0 and mode is not Mode.OFF
    asked_for = mode is Mode.ENSURE or reserved
    return Answer.PROBLEM if asked_for else Answer.NOT_APPLICABLE


CHECK = Check(
    name="images",
    question="Are the loaded images right?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.OK, Answer.NOT_APPLICABLE}),
    cheap=False,  # the daemon has its own verdicts
    files=bootfiles.FILES,
    asks=(LOOK,),
)
