# SPDX-License-Identifier: GPL-2.0-or-later
"""Can kexecwatchd see what the kernel holds?"""

from __future__ import annotations

from pathlib import Path

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.read_back import READABLE
from tests.unit.kernel.trees import kcore, populate

from .machines import Case

LOCKED: dict[str, str | bytes | None] = {
    "sys/kernel/security/lockdown": "none integrity [confidentiality]\n"
}


def told(**why: str) -> dict[str, dict[str, str]]:
    return {"read-back": {"kcore": "", "kallsyms": "", "kmsg": "", **why}}


CASES = (
    Case("all is open", Answer.OK, "open to root", asks=told()),
    Case("locked down", Answer.WARNING, "confidentiality", LOCKED, told(kcore="not permitted")),
    Case("in a container", Answer.WARNING, "(not permitted)", asks=told(kcore="not permitted")),
    Case("no symbols", Answer.WARNING, "/proc/kallsyms (hidden)", asks=told(kallsyms="hidden")),
    Case(
        "a kernel without kexec",
        Answer.NOT_APPLICABLE,
        "can hold no images",
        {"sys/kernel/kexec_loaded": None, "sys/kernel/kexec_crash_loaded": None},
        told(kcore="not permitted"),
    ),
    Case("not tried", Answer.CANNOT_TELL, "read-back: it was not collected"),
    Case("no log", Answer.WARNING, "/dev/kmsg (not permitted)", asks=told(kmsg="not permitted")),
)


def test_what_is_there_is_opened(tmp_path: Path) -> None:
    assert "CONFIG_PROC_KCORE" in Host(tmp_path).ask(READABLE)["kcore"]
    kcore(tmp_path, {0x1000: b"RAM"})
    hidden = "0000000000000000 T _stext\n" * 3
    populate(tmp_path, {"proc/kallsyms": hidden, "dev/kmsg": ""})
    seen = Host(tmp_path).ask(READABLE)
    assert (seen["kcore"], seen["kmsg"]) == ("", "")
    assert "hidden" in seen["kallsyms"]
    populate(tmp_path, {"proc/kallsyms": hidden + "ffffffff81000000 T _text\n"})
    assert Host(tmp_path).ask(READABLE)["kallsyms"] == ""
    populate(tmp_path, {"proc/kcore": "no ELF"})
    assert Host(tmp_path).ask(READABLE)["kcore"]
