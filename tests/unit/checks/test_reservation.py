# SPDX-License-Identifier: GPL-2.0-or-later
"""Is memory reserved for a crash kernel?

The messages are those of booted kernels (6.1, 6.12 and 7.3) or, for arm64, riscv and the rare ones,
of their sources.
"""

from __future__ import annotations

from collections.abc import Mapping

from kexecwatchd.checks.check import Answer
from tests.unit.kernel.test_firmware_map import boot_params

from .machines import Case

VERSION = "Linux version 6.12.118+deb13-amd64 (debian-kernel@lists.debian.org)"
RAM = "00100000-7fffffff : System RAM\n"
MORE = "100000000-27fffffff : System RAM\n"


def iomem(*parts: str) -> str:
    return RAM + "".join(f"  {part} : Crash kernel\n" for part in parts) + MORE


SOME_CMA = "crashkernel CMA reservation failed: 256 MB requested, 128 MB reserved in 1 ranges"

BOOT_PARAMS = "sys/kernel/boot_params/data"
BOOTED_WITH_2_GIB = boot_params([(1 << 20, 2 << 30, 1)])

LOW = iomem("60000000-7fffffff")
HIGH = f"{RAM}  30000000-3fffffff : Crash kernel\n{MORE}  240000000-27fffffff : Crash kernel\n"


def case(
    name: str,
    answer: Answer,
    says: str,
    crashkernel: str,
    *,
    map_: str = RAM + MORE,
    log: tuple[str, ...] = (),
    more: Mapping[str, str | bytes | None] | None = None,
) -> Case:
    return Case(
        name,
        answer,
        says,
        {"proc/iomem": map_, "proc/cmdline": f"ro {crashkernel} quiet\n", **(more or {})},
        {"boot-log": [VERSION, *log]},
    )


def refused(name: str, crashkernel: str, line: str) -> Case:
    """Nothing is reserved, and the message says why."""
    return case(name, Answer.PROBLEM, f"no: {line}", crashkernel, log=(line,))


CASES = (
    case("low", Answer.OK, "yes: 512 MiB", "crashkernel=512M", map_=LOW),
    case("high and low", Answer.OK, "4 GiB, 256 MiB below", "crashkernel=1G", map_=HIGH),
    case("high,", Answer.OK, "1 GiB above", "crashkernel=1G,high crashkernel=256M,low", map_=HIGH),
    case("ranges", Answer.OK, "yes: 512 MiB", "crashkernel=1G-4G:256M,4G-:512M", map_=LOW),
    case("ranges, and memory that came later", Answer.OK, "yes: 512 MiB",
         "crashkernel=1G-3G:512M,3G-:1G", map_=LOW, more={BOOT_PARAMS: BOOTED_WITH_2_GIB}),
    case("ranges, and all of it was there", Answer.WARNING, "less than asked for",
         "crashkernel=1G-3G:512M,3G-:1G", map_=LOW),
    case("an unknown memmap=, and it is there", Answer.OK, "yes: 512 MiB",
         "crashkernel=1G-3G:512M,3G-:1G memmap=exactmap", map_=LOW,
         more={BOOT_PARAMS: BOOTED_WITH_2_GIB}),
    case("an unknown memmap=, and it is not", Answer.CANNOT_TELL, "memmap=",
         "crashkernel=512M memmap=exactmap", more={BOOT_PARAMS: BOOTED_WITH_2_GIB}),
    case("built without", Answer.NOT_APPLICABLE, "cannot hold a crash image", "crashkernel=512M",
         more={"sys/kernel/kexec_crash_loaded": None}),
    case("at an address", Answer.OK, "yes: 512 MiB", "crashkernel=512M@1536M", map_=LOW),
    case("the last counts", Answer.OK, "yes: 512 MiB", "crashkernel=1G crashkernel=512M", map_=LOW),
    case("with CMA", Answer.OK, "yes: 512 MiB, 256 MiB of CMA",
         "crashkernel=512M crashkernel=256M,cma", map_=LOW,
         more={"sys/kernel/kexec/crash_cma_ranges": "110000000-11fffffff\n"}),
    case("built-in command line", Answer.OK, "yes: 512 MiB", "", map_=LOW),
    case("without CMA", Answer.WARNING, "not the CMA",
         "crashkernel=512M crashkernel=256M,cma", map_=LOW,
         log=("crashkernel CMA reservation failed: 256 MB requested, 0 MB reserved in 0 ranges",)),
    case("without CMA, and it is not said why", Answer.OK, "yes: 512 MiB",
         "crashkernel=512M crashkernel=256M,cma", map_=LOW),
    Case("without CMA, no log", Answer.OK, "yes: 512 MiB",
         {"proc/iomem": LOW, "proc/cmdline": "crashkernel=512M crashkernel=256M,cma\n"}),
    case("some CMA", Answer.OK, "yes: 512 MiB, 128 MiB of CMA",
         "crashkernel=512M crashkernel=256M,cma", map_=LOW,
         more={"sys/kernel/kexec/crash_cma_ranges": "110000000-117ffffff\n"},
         log=(SOME_CMA,)),
    case("given back in part", Answer.WARNING, "less than asked for: 512 MiB, of 1 GiB",
         "crashkernel=1G", map_=LOW),
    case("only high", Answer.WARNING, "only above 4 GiB: 1 GiB above",
         "crashkernel=1G,high crashkernel=0,low",
         map_=f"{RAM}{MORE}  240000000-27fffffff : Crash kernel\n"),
    case("arm64 has no swiotlb to feed", Answer.OK, "1 GiB above 4 GiB",
         "crashkernel=1G,high crashkernel=0,low",
         map_=f"{RAM}{MORE}  240000000-27fffffff : Crash kernel\n",
         more={"proc/sys/kernel/arch": "aarch64\n"}),
    case("not asked for", Answer.PROBLEM, "there is no crashkernel=", ""),
    refused("low part, 6.1", "crashkernel=1G",
            "Cannot reserve 256MB crashkernel low memory, please try smaller size."),
    refused("low part, 6.7 and arm64", "crashkernel=1G",
            "cannot allocate crashkernel low memory (size: 256 MiB)."),
    refused("all, 6.1", "crashkernel=1G",
            "crashkernel reservation failed - No suitable area found."),
    refused("all, 6.7 and arm64", "crashkernel=1G", "cannot allocate crashkernel (size: 1 GiB)"),
    refused("all, riscv", "crashkernel=1G", "crashkernel: couldn't allocate 1048576KB"),
    refused("taken", "crashkernel=1G@16M", "crashkernel reservation failed - memory is in use."),
    refused("taken, old arm64", "crashkernel=1G@16M",
            "cannot reserve crashkernel: region overlaps reserved memory"),
    refused("unknown suffix", "crashkernel=512M,cma", "crashkernel: unrecognized char: ,"),
    refused("no size", "crashkernel=auto", "crashkernel: memory value expected"),
    refused("misspelt by 6.7", "crashkernel=512M-:256M@",
            "crahskernel: Memory value expected after '@'"),
    refused("Xen", "crashkernel=512M", "Ignoring crashkernel for a Xen PV domain"),
    case("no message", Answer.PROBLEM, "the kernel does not say why", "crashkernel=1G"),
    case("too much, which is not said", Answer.PROBLEM, "more is asked for than", "crashkernel=1T"),
    case("given back", Answer.PROBLEM, "given back since", "crashkernel=512M",
         log=("crashkernel reserved: [address] - [address] (512 MB)",)),
    case("given back, 6.1", Answer.PROBLEM, "given back since", "crashkernel=512M",
         log=("Reserving 512MB of memory at [address]MB for crashkernel (System RAM: 8191MB)",)),
    Case("lost", Answer.PROBLEM, "no longer has the beginning",
         {"proc/iomem": RAM, "proc/cmdline": "crashkernel=1G\n"}, {"boot-log": []}),
    Case("no log", Answer.PROBLEM, "the boot messages cannot be read",
         {"proc/iomem": RAM, "proc/cmdline": "crashkernel=1G\n"}),
    case("asks for nothing here", Answer.NOT_APPLICABLE, "asks for 0 bytes", "crashkernel=64G-:1G"),
    case("a crash kernel", Answer.NOT_APPLICABLE, "a crash kernel itself", "elfcorehdr=0x1000000"),
    case("not wanted", Answer.NOT_APPLICABLE, "wants no crash image", "",
         more={"etc/kexecwatchd/kexecwatchd.toml": '[crash]\nmode = "off"\n'}),
    case("wanted, but not asked for", Answer.PROBLEM, "there is no crashkernel=", "",
         more={"etc/kexecwatchd/kexecwatchd.toml": '[crash]\nmode = "ensure"\n'
               'kernel = "/vmlinuz"\ncmdline = "ro"\n'}),
    case("hidden", Answer.CANNOT_TELL, "CAP_SYS_ADMIN", "crashkernel=512M",
         map_="00000000-00000000 : System RAM\n"),
)  # fmt: skip
