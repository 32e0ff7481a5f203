# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the first megabyte right in the dump?"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.first_megabyte import CHECK, FIRST_MEGABYTE, FirstMegabyte
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.sources.bootlog import BOOT_LOG
from tests.unit.kernel.trees import DATA, crash_header, kcore, populate

from .machines import Case, answer_of

SME = {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu lm sme sev\n\n"}
NO_SME = {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu lm\n\n"}
BANNER = "Linux version 5.3.18"
COPIED = 0x9EC00  # by kexec-tools, in the lab


def asks(log: tuple[str, ...] = (BANNER,), **megabyte: Any) -> dict[str, Any]:
    seen = {"reserved": None, "loaded": True, **megabyte}
    return {FIRST_MEGABYTE.name: seen, BOOT_LOG.name: list(log)}


def active(words: str) -> tuple[str, ...]:
    return (BANNER, words)


CASES = (
    Case(
        "6.12 with its own image",
        Answer.OK,
        "this kernel keeps out of it",
        NO_SME,
        asks(reserved=True),
    ),
    Case(
        "6.12 without an image",
        Answer.OK,
        "this kernel keeps out of it",
        NO_SME,
        asks(reserved=True, loaded=False),
    ),
    Case(
        "SME, copied by purgatory, but by a kernel that keeps out of it",
        Answer.OK,
        "this kernel keeps out of it",
        SME,
        asks(
            active("Memory Encryption Features active: AMD SME"),
            reserved=True,
            listed=COPIED,
            copied=COPIED,
        ),
    ),
    Case(
        "5.5, as far as its log tells",
        Answer.OK,
        "this kernel keeps out of it",
        SME,
        asks(active("Reserving the low 1MiB of memory for crashkernel"), copied=COPIED),
    ),
    Case(
        "the thread's machine: 5.3 with SME",
        Answer.PROBLEM,
        "garbage in the dump: this kernel uses it, and purgatory copies 635 KiB of it",
        SME,
        asks(
            active("AMD Secure Memory Encryption (SME) active"),
            reserved=False,
            listed=COPIED,
            copied=COPIED,
        ),
    ),
    Case(
        "5.12 without crashkernel=, later words",
        Answer.PROBLEM,
        "garbage in the dump",
        SME,
        asks(
            active("AMD Memory Encryption Features active: SME"),
            reserved=False,
            listed=COPIED,
            copied=COPIED,
        ),
    ),
    Case(
        "SME perhaps: the log does not go back",
        Answer.WARNING,
        "whether SME is active is not known",
        SME,
        asks((), reserved=False, listed=COPIED, copied=COPIED),
    ),
    Case(
        "SME, but not in use",
        Answer.OK,
        "purgatory copies 635 KiB of it",
        SME,
        asks(reserved=False, listed=COPIED, copied=COPIED),
    ),
    Case(
        "no SME, the log does not go back",
        Answer.OK,
        "purgatory copies 635 KiB of it",
        NO_SME,
        asks((), reserved=False, listed=COPIED, copied=COPIED),
    ),
    Case(
        "an SEV guest",
        Answer.OK,
        "purgatory copies",
        NO_SME,
        asks(
            active("Memory Encryption Features active: AMD SEV"),
            reserved=False,
            listed=COPIED,
            copied=COPIED,
        ),
    ),
    Case(
        "whether it is reserved does not matter where it is copied",
        Answer.OK,
        "purgatory copies",
        NO_SME,
        asks(listed=COPIED, copied=COPIED),
    ),
    Case(
        "used and not listed",
        Answer.WARNING,
        "the crash image does not list it",
        NO_SME,
        asks(reserved=False),
    ),
    Case(
        "used, listed where it is",
        Answer.WARNING,
        "the crash image lists 635 KiB of it without a copy",
        NO_SME,
        asks(reserved=False, listed=COPIED),
    ),
    Case(
        "no image",
        Answer.CANNOT_TELL,
        "no crash image is loaded",
        NO_SME,
        asks(reserved=False, loaded=False),
    ),
    Case(
        "lockdown",
        Answer.CANNOT_TELL,
        "cannot be read: not permitted",
        NO_SME,
        asks(reserved=False, problem="not permitted"),
    ),
    Case(
        "no page flags",
        Answer.CANNOT_TELL,
        "/proc/kpageflags",
        NO_SME,
        asks(),
    ),
    Case(
        "arm64",
        Answer.NOT_APPLICABLE,
        "not aarch64's",
        {"proc/sys/kernel/arch": "aarch64\n"},
    ),
)


def test_the_combination_of_the_thread_is_named_where_it_does_no_harm(tmp_path: Path) -> None:
    finding = answer_of(CHECK, CASES[2], tmp_path)
    assert "635 KiB" in finding.explanation
    assert "garbage" in finding.explanation


CAPTURE = DATA / "6.1-kexec-tools"
ADDRESS = 0x1EF5D000
REGION = 0xF000000
RESERVED, FREE = 1 << 32, 1 << 10


def captured(root: Path, *, loaded: bool = True) -> None:
    """6.1 with an image of kexec-tools: iomem and elfcorehdr as they were."""
    region = bytearray(256 << 20)
    data = (CAPTURE / f"elfcorehdr-{ADDRESS:x}").read_bytes()
    region[ADDRESS - REGION : ADDRESS - REGION + len(data)] = data
    kcore(root, {REGION: bytes(region)})
    populate(
        root,
        {
            "proc/sys/kernel/arch": "x86_64\n",
            "proc/iomem": (CAPTURE / "iomem").read_bytes(),
            "proc/kpageflags": struct.pack("=256Q", *[RESERVED] * 256),
            "sys/kernel/kexec_crash_loaded": "1\n" if loaded else "0\n",
        },
    )


def test_kexec_tools_on_6_1(tmp_path: Path) -> None:
    captured(tmp_path)
    assert Host(tmp_path).ask(FIRST_MEGABYTE) == FirstMegabyte(
        reserved=True, loaded=True, listed=COPIED, copied=COPIED
    )


def test_what_an_unload_left_behind_does_not_count(tmp_path: Path) -> None:
    captured(tmp_path, loaded=False)
    assert Host(tmp_path).ask(FIRST_MEGABYTE) == FirstMegabyte(reserved=True, loaded=False)


def test_one_page_in_use(tmp_path: Path) -> None:
    captured(tmp_path, loaded=False)
    pages = [RESERVED] * 256
    pages[0x9E] = FREE
    populate(tmp_path, {"proc/kpageflags": struct.pack("=256Q", *pages)})
    assert Host(tmp_path).ask(FIRST_MEGABYTE).reserved is False


def test_pages_that_are_no_ram_do_not_count(tmp_path: Path) -> None:
    captured(tmp_path, loaded=False)
    pages = [0, *[RESERVED] * 0x9E, *[0] * (255 - 0x9E)]
    populate(tmp_path, {"proc/kpageflags": struct.pack("=256Q", *pages)})
    assert Host(tmp_path).ask(FIRST_MEGABYTE).reserved is True


def test_without_page_flags(tmp_path: Path) -> None:
    captured(tmp_path, loaded=False)
    (tmp_path / "proc/kpageflags").unlink()
    assert Host(tmp_path).ask(FIRST_MEGABYTE).reserved is None


def test_the_kernels_own_image(tmp_path: Path) -> None:
    captured(tmp_path)
    header = crash_header({0x100000: 0xEF00000}, {0x3000: 8})
    kcore(tmp_path, {REGION: header + bytes((256 << 20) - len(header))})
    assert Host(tmp_path).ask(FIRST_MEGABYTE) == FirstMegabyte(reserved=True, loaded=True)


def test_an_unreadable_header_is_said_without_addresses(tmp_path: Path) -> None:
    captured(tmp_path)
    kcore(tmp_path, {REGION: bytes(256 << 20)})
    problem = Host(tmp_path).ask(FIRST_MEGABYTE).problem
    assert "reads as zeros" in problem
    assert f"{REGION:x}" not in problem


def test_an_old_kernel_that_reserves_a_part(tmp_path: Path) -> None:
    """Before 5.5: the first 64 KiB and the trampoline."""
    captured(tmp_path, loaded=False)
    pages = [RESERVED if page < 16 or page >= 0x99 else FREE for page in range(256)]
    populate(tmp_path, {"proc/kpageflags": struct.pack("=256Q", *pages)})
    assert Host(tmp_path).ask(FIRST_MEGABYTE).reserved is False


@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_facts(tmp_path: Path, case: Case) -> None:
    assert answer_of(CHECK, case, tmp_path).facts["reserved"] == "yes"
