# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel says about kexec: what is loaded, what is permitted; and what it runs as.

Only files that are safe to poll are read. kexec_crash_size is not among them: reading it takes the
kexec lock, may fail with EBUSY, and can make the kernel's own hotplug update drop an event
(crash_get_memory_size(), kernel/kexec_core.c). memory/crash_hotplug and cpu/crash_hotplug take the
lock too (crash_check_hotplug_support(), kernel/crash_core.c).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kexecwatchd.ranges import Range, RangeSet


@dataclass(frozen=True, slots=True)
class KexecState:
    """`crash_loaded`, `reboot_loaded`: None = no such file: the kernel cannot hold that image.

    `limit_panic`, `limit_reboot`: loads that kernel.kexec_load_limit_* still permits, -1 = any.
    `lockdown`: none, integrity or confidentiality; "" = not known (no securityfs or no lockdown).
    `crash_cma`: the memory of crashkernel=,cma, which elfcorehdr leaves out (kernels 6.19 and later
    tell).
    """

    crash_loaded: bool | None
    reboot_loaded: bool | None
    load_disabled: bool = False
    limit_panic: int = -1
    limit_reboot: int = -1
    lockdown: str = ""
    crash_cma: RangeSet = field(default_factory=RangeSet)


def read(root: Path = Path("/")) -> KexecState:
    """The state of now; takes no lock. Raises OSError, or ValueError naming file and content."""
    sysctl = root / "proc/sys/kernel"
    return KexecState(
        crash_loaded=_loaded(root, "crash_loaded"),
        reboot_loaded=_loaded(root, "loaded"),
        load_disabled=_number(sysctl / "kexec_load_disabled", 0) != 0,
        limit_panic=_number(sysctl / "kexec_load_limit_panic", -1),
        limit_reboot=_number(sysctl / "kexec_load_limit_reboot", -1),
        lockdown=lockdown(root),
        crash_cma=_crash_cma(root / "sys/kernel/kexec/crash_cma_ranges"),
    )


def updates_itself(root: Path = Path("/")) -> bool:
    """True when the kernel rewrites elfcorehdr by itself (CONFIG_CRASH_HOTPLUG, 6.6), for images
    that let it.

    memory/crash_hotplug, which tells it of the image that is loaded, takes the kexec lock when it
    is read; this is another file of the same option, and it is not even read.
    """
    sys_kernel = root / "sys/kernel"
    names = ("kexec/crash_elfcorehdr_size", "crash_elfcorehdr_size")
    return any((sys_kernel / name).exists() for name in names)


def lockdown(root: Path = Path("/")) -> str:
    """none, integrity or confidentiality; "" = not known. Raises OSError."""
    return parse_lockdown(_text(root / "sys/kernel/security/lockdown") or "")


def la57(root: Path = Path("/")) -> bool:
    """True when an x86 kernel runs with five-level paging; False on every other machine."""
    return cpu_flag("la57", root)


def cpu_flag(name: str, root: Path = Path("/")) -> bool:
    """True when x86's /proc/cpuinfo has that flag. Raises OSError."""
    with (root / "proc/cpuinfo").open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == "flags":
                return name in value.split()
            if not line.strip():
                break
    return False


def boot_id(root: Path = Path("/")) -> str:
    """Names this boot: no other has the same."""
    return (root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def kernel_release(root: Path = Path("/")) -> str:
    """As uname -r says it."""
    return (root / "proc/sys/kernel/osrelease").read_text(encoding="ascii").strip()


def parse_lockdown(text: str) -> str:
    """The word in brackets: "none [integrity] confidentiality" gives "integrity"; else ""."""
    words = [word for word in text.split() if word.startswith("[") and word.endswith("]")]
    return words[0][1:-1] if words else ""


def parse_cma_ranges(text: str) -> RangeSet:
    """Lines of "start-end": hexadecimal without 0x, the end inclusive. Raises ValueError."""
    ranges = []
    for line in text.split():
        start, _, end = line.partition("-")
        ranges.append(Range(int(start, 16), int(end, 16) + 1))
    return RangeSet(ranges)


def _loaded(root: Path, name: str) -> bool | None:
    """6.19 moved the files into a directory; the old names are to go after 2028."""
    for path in (root / "sys/kernel/kexec" / name, root / f"sys/kernel/kexec_{name}"):
        text = _text(path)
        if text is not None:
            return text != "0"
    return None


def _crash_cma(path: Path) -> RangeSet:
    try:
        return parse_cma_ranges(_text(path) or "")
    except ValueError as error:
        raise ValueError(f"{path}: not a list of ranges: {error}") from error


def _number(path: Path, absent: int) -> int:
    text = _text(path)
    if text is None:
        return absent
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{path}: {text[:40]!r} is no number") from None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
