# SPDX-License-Identifier: GPL-2.0-or-later
"""Are kernel and initrd of each image there and good?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks.boot_files import CHECK, SEEN
from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.sources.bootfiles import KERNELS, chosen
from tests.unit.kernel.trees import populate

from .machines import COMMON, KDUMP_TOOLS, RELEASE, Case, answer_of

OTHER = "6.12.1+deb13-amd64"
KERNEL, INITRD = f"/boot/vmlinuz-{RELEASE}", f"/boot/initrd.img-{RELEASE}"
TOML = "etc/kexecwatchd/kexecwatchd.toml"
DIMM = "sys/bus/acpi/devices/PNP0C80:00/status"
Files = dict[str, str | bytes | None]


def files(cmdline: str = "nr_cpus=1", more: Files | None = None) -> Files:
    text = f'[crash]\nkernel = "{KERNEL}"\ninitrd = "{INITRD}"\ncmdline = "{cmdline}"\n'
    return {TOML: text, **(more or {})}


def seen(
    kernel: str | dict[str, Any] = RELEASE,
    initrd: str = f"initrd.img-{RELEASE}",
    problem: str = "",
    size: int = 1,
    paths: tuple[str, str] = (KERNEL, INITRD),
) -> dict[str, Any]:
    image = {"cmdline_size": 2047, "five_level": True, "memory_size": 1, "signed": True}
    releases = [RELEASE, "6.99-other"]
    told = {"problems": [], "name": "vmlinuz", "size": 9, "releases": releases}
    other = {"problems": [problem] if problem else [], "name": initrd, "size": size}
    return {
        "kernels": {paths[0]: {**image, "release": kernel} if kernel != "bad" else "truncated"},
        "boot-files": {paths[0]: told, paths[1]: {**other, "releases": releases}},
    }


DEFAULTS = "etc/default/kdump-tools"
ON = str(KDUMP_TOOLS[DEFAULTS])
DEBIAN = (KERNEL, f"/var/lib/kdump/initrd.img-{RELEASE}")
APPEND = ON + 'KDUMP_CMDLINE_APPEND="nr_cpus=1 acpi_no_memhotplug"\n'
RUNNING = "sys/fs/cgroup/system.slice/kexecwatchd.service/cgroup.procs"


def kdump(text: str = ON, more: Files | None = None) -> Files:
    return {**KDUMP_TOOLS, DEFAULTS: text, **(more or {})}


CASES = (
    Case("good", Answer.OK, "the crash image's", files(), seen()),
    Case("kdump-tools, switched off", Answer.NOT_APPLICABLE,
         "none are configured; kdump-tools names none: it is switched off", kdump("USE_KDUMP=0\n")),
    Case("kdump-tools, and nothing for it to load into", Answer.NOT_APPLICABLE, "no crashkernel=",
         kdump(more={"proc/cmdline": "ro quiet\n"})),
    Case("another release than the running one", Answer.OK, "yes", files(),
         seen("6.99-other", "initramfs-6.99-otherkdump.img")),
    Case("a name that tells nothing", Answer.OK, "yes", files(), seen(initrd="initrd")),
    Case("none configured", Answer.NOT_APPLICABLE, "none"),
    Case("not looked at", Answer.CANNOT_TELL, "boot-files: it was not collected", files()),
    Case("no initrd", Answer.PROBLEM, "does not exist", files(),
         seen(problem=f"{INITRD}: does not exist", size=0)),
    Case("an empty initrd", Answer.PROBLEM, "is empty", files(), seen(size=0)),
    Case("a bad kernel", Answer.PROBLEM, "truncated", files(), seen("bad")),
    Case("a removed kernel", Answer.WARNING, "no modules of that release", files(),
         seen(OTHER, f"initrd.img-{OTHER}")),
    Case("initrd of another", Answer.WARNING, f"by its name of {OTHER}", files(),
         seen(initrd=f"initrd.img-{OTHER}")),
    Case("SUSE's names", Answer.WARNING, f"by its name of {OTHER}", files(),
         seen(initrd=f"initrd-{OTHER}-kdump")),
    Case("a long command line", Answer.PROBLEM, "2018 bytes, its kernel 2017",
         files("nr_cpus=1" + " " * 2008), seen()),
    Case("just not too long", Answer.OK, "yes", files("nr_cpus=1" + " " * 2007), seen()),
    Case("all CPUs", Answer.WARNING, "lacks nr_cpus=1", files("irqpoll"), seen()),
    Case("memory through ACPI", Answer.PROBLEM, "lacks acpi_no_memhotplug",
         files(more={DIMM: "15\n"}), seen()),
    Case("an empty slot", Answer.OK, "yes", files(more={DIMM: "0\n"}), seen()),
    Case("memory through ACPI, and told", Answer.OK, "yes",
         files("nr_cpus=1 acpi_no_memhotplug", {DIMM: "15\n"}), seen()),
    Case("kdump-tools does not tell it", Answer.PROBLEM, "lacks acpi_no_memhotplug",
         kdump(more={DIMM: "15\n"}), seen(paths=DEBIAN)),
    Case("kexecwatchd tells it", Answer.OK, "yes", kdump(more={DIMM: "15\n", RUNNING: "1\n"}),
         seen(paths=DEBIAN)),
    Case("kdump-tools has others", Answer.OK, "the crash image's",
         kdump(f"USE_KDUMP=1\nKDUMP_KERNEL={KERNEL}\nKDUMP_INITRD={INITRD}\n"), seen()),
    Case("kdump-tools' kernel is worked out", Answer.CANNOT_TELL, "KDUMP_KERNEL is set to",
         kdump("USE_KDUMP=1\nKDUMP_KERNEL=/boot/vmlinuz-$(uname -r)\n"), seen()),
    Case("kdump-tools tells it", Answer.OK, "yes", kdump(APPEND, {DIMM: "15\n"}),
         seen(paths=DEBIAN)),
)  # fmt: skip


def test_the_worst_comes_first_and_none_is_kept_back(tmp_path: Path) -> None:
    case = Case("two", Answer.PROBLEM, "is empty (and 1 more)", files("irqpoll"), seen(size=0))
    finding = answer_of(CHECK, case, tmp_path)
    assert "nr_cpus=1" in finding.explanation
    assert "nr_cpus=1" in finding.remedy


def test_files_are_looked_at(tmp_path: Path) -> None:
    populate(
        tmp_path,
        {
            TOML: files()[TOML] or "",
            "proc/sys/kernel/arch": "x86_64\n",
            KERNEL[1:]: "kernel",
            "boot/real": "12",
            "usr/lib/modules/6.99-other/modules.dep": "",
        },
    )
    (tmp_path / INITRD[1:]).symlink_to("real")
    (tmp_path / KERNEL[1:]).chmod(0o666)
    told = Host(tmp_path).ask(SEEN)
    assert (told[INITRD].name, told[INITRD].size, told[INITRD].problems) == ("real", 2, [])
    assert "others may write" in told[KERNEL].problems[0]
    assert told[KERNEL].releases == ["6.99-other"]
    (tmp_path / "boot/real").unlink()
    assert "does not exist" in Host(tmp_path).ask(SEEN)[INITRD].problems[0]


@pytest.mark.parametrize("cmdline", ["maxcpus=1", "nr_cpus=2", "nosmp"])
def test_other_words_for_few_cpus(tmp_path: Path, cmdline: str) -> None:
    answer_of(CHECK, Case(cmdline, Answer.OK, "yes", files(cmdline), seen()), tmp_path)


def test_whose_kernels_are_looked_at(tmp_path: Path) -> None:
    """The crash image's may be a distribution's; a reboot image has kexecwatchd.toml only."""
    theirs = KERNEL
    populate(tmp_path, {**COMMON, **KDUMP_TOOLS, theirs[1:]: b"no kernel"})
    host = Host(tmp_path)
    assert [(f.image.value, f.origin) for f in chosen(host)] == [("crash", "kdump-tools")]
    found = host.ask(KERNELS)
    assert found.keys() == {theirs}
    assert "too short" in str(found[theirs])
    populate(tmp_path, {TOML: '[reboot]\nkernel = "/none"\ncmdline = "ro"\n'})
    found = Host(tmp_path).ask(KERNELS)
    assert found.keys() == {theirs, "/none"}
    assert found["/none"] == "cannot be opened: No such file or directory"
