# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes the capture initrd large?

The question of Eric W. Biederman to who needs ever more memory for a dump ("Add writing support to
vmcore for reusing oldmem", LKML, September 2020): is it the drivers, or is it the user space, such
as systemd, that was put into the initrd? An initrd is in memory twice for a moment: as it was
loaded, and unpacked (do_populate_rootfs() in init/initramfs.c).
"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.checks.sources.initrdgroups import INITRD, capture_files
from kexecwatchd.checks.sources.reserved import RESERVATION
from kexecwatchd.kernel.initrd_contents import Contents
from kexecwatchd.sizes import human

_REMEDY = (
    "Leave out what a dump does not need, largest first. With dracut: omit_drivers and"
    " omit_dracutmodules in a file of /etc/dracut.conf.d (Fedora's kdump also: dracut_args"
    ' --omit-drivers "NAME …" in /etc/kdump.conf). With initramfs-tools: MODULES=dep, and no hooks'
    " that only a normal boot needs. Then have the initrd made again, and ask capture-memory what"
    " it needs now."
)


def look(host: Host) -> Finding:
    files = capture_files(host)
    if files is None:
        return Finding(
            Answer.NOT_APPLICABLE,
            f"no kernel and initrd for a crash image are known of here{host.config.crash.none}",
        )
    if files.initrd is None:
        return Finding(Answer.NOT_APPLICABLE, "the crash image is loaded without an initrd")
    contents = host.ask(INITRD)
    if isinstance(contents, str):
        raise CannotTell(contents)
    reserved = host.ask(RESERVATION).total
    takes = contents.packed + contents.pages
    facts: dict[str, Fact] = {
        "packed": contents.packed,
        "unpacked": contents.unpacked,
        "in_memory": contents.pages,
        "files": contents.files,
        "formats": list(contents.formats),
        "systemd": int(contents.systemd),
        "groups": [[name, size] for name, size in contents.groups.items()],
        "largest": [[name, size] for name, size in contents.largest],
        "reserved": reserved,
    }
    summary = (
        f"{human(contents.unpacked)} unpacked, {human(contents.packed)} as a file;"
        f" mostly {_listed(contents, 3)}"
    )
    if contents.systemd:
        summary += "; systemd runs in it"
    if reserved and takes > reserved // 2:
        return Finding(
            Answer.WARNING,
            f"it alone fills {100 * takes // reserved} % of the reservation: {summary}",
            _explanation(contents),
            _REMEDY,
            facts,
        )
    return Finding(Answer.OK, summary, _explanation(contents), facts=facts)


def _explanation(contents: Contents) -> str:
    largest = ", ".join(f"{name} {human(size)}" for name, size in contents.largest[:8])
    text = (
        "For a moment the capture kernel holds its initrd twice: the file as it was loaded, and"
        f" what it unpacks to. Largest first: {_listed(contents, 12)}. The largest files:"
        f" {largest}."
    )
    if contents.systemd:
        text += (
            " It starts systemd, which wants journal, udev and its libraries along: a script that"
            " only mounts the target and runs makedumpfile needs a fraction of that."
        )
    return text


def _listed(contents: Contents, most: int) -> str:
    groups = list(contents.groups.items())
    shown = [f"{name} {human(size)}" for name, size in groups[:most]]
    rest = sum(size for _, size in groups[most:])
    return ", ".join(shown + ([f"the rest {human(rest)}"] if rest else [])) or "nothing"


CHECK = Check(
    name="initrd",
    question="What makes the capture initrd large?",
    look=look,
    answers=frozenset({Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    cheap=False,
    files=(*bootfiles.FILES, "proc/sys/kernel/osrelease"),
    asks=(INITRD, RESERVATION),
)
