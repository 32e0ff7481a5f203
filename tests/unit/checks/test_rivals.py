# SPDX-License-Identifier: GPL-2.0-or-later
"""Does another tool load the crash image again when memory changes?"""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.rivals import CHECK, rivals
from kexecwatchd.checks.sources.udevrules import parse

from .machines import Case, answer_of

# What matters of a Debian 13 with kdump-tools 1.10.7 (systemd 257), in our words; scenario 19 asks
# about the real ones.
DEBIAN = "".join(
    f'ACTION=="{action}", SUBSYSTEM=="{subsystem}", PROGRAM="/usr/sbin/kdump-config try-reload"\n'
    for subsystem, actions in (("memory", "online offline"), ("cpu", "add remove online"))
    for action in actions.split()
)
UDEVD = """[Unit]
Description=The device manager
[Service]
ExecStart=/usr/lib/systemd/systemd-udevd
SystemCallFilter=@system-service @module @raw-io bpf
SystemCallFilter=~@clock
SystemCallErrorNumber=EPERM
"""

RULES = "usr/lib/udev/rules.d"
UNIT = "usr/lib/systemd/system/systemd-udevd.service"
DROP_IN = "etc/systemd/system/systemd-udevd.service.d/override.conf"
TOML = "etc/kexecwatchd/kexecwatchd.toml"
PLAIN: dict[str, str | bytes | None] = {
    f"{RULES}/50-kdump-tools.rules": DEBIAN,
    f"{RULES}/60-block.rules": 'SUBSYSTEM=="block", PROGRAM="/usr/bin/true"\n',
    UNIT: UDEVD,
}
RUNS = {"sys/fs/cgroup/system.slice/kexecwatchd.service/cgroup.procs": "312\n"}
OURS = '[crash]\nmode = "ensure"\nkernel = "/boot/vmlinuz"\ncmdline = "reset_devices"\n'
# The shape of what Fedora and SUSE install.
FEDORA = """SUBSYSTEM=="memory", ACTION=="online", GOTO="reload"
GOTO="end"
LABEL="reload"
RUN+="/bin/sh -c '/usr/bin/systemctl is-active kdump.service || exit 0; \
/usr/bin/systemd-run --quiet --no-block /usr/lib/udev/kdump-udev-throttler'"
LABEL="end"
"""
SUSE = """SUBSYSTEM=="memory", ACTION=="add|remove", GOTO="restart"
GOTO="end"
LABEL="restart"
PROGRAM="/bin/cat /sys/kernel/kexec_crash_loaded", RESULT!="0", RUN+="/usr/lib/kdump/load-once.sh"
LABEL="end"
"""

CASES = (
    Case("plain Debian 13", Answer.PROBLEM, "kdump-tools means to", PLAIN),
    Case(
        "the kernel does part of it",
        Answer.WARNING,
        "the kernel does part",
        {**PLAIN, "sys/kernel/crash_elfcorehdr_size": "921600\n"},
    ),
    Case("kexecwatchd does", Answer.OK, "kexecwatchd does", {**PLAIN, **RUNS, TOML: OURS}),
    Case(
        "kexecwatchd would, and does not run",
        Answer.PROBLEM,
        "nobody else does",
        {**PLAIN, TOML: OURS},
    ),
    Case(
        "kexecwatchd looks only",
        Answer.PROBLEM,
        "nobody else",
        {**PLAIN, **RUNS, TOML: OURS.replace("ensure", "observe")},
    ),
    Case(
        "kexecwatchd has nothing to load",
        Answer.PROBLEM,
        "nobody else",
        {**PLAIN, **RUNS, TOML: '[crash]\nmode = "follow"\n'},
    ),
    Case(
        "the filter is opened",
        Answer.OK,
        "kdump-tools does",
        {**PLAIN, DROP_IN: "[Service]\nSystemCallFilter=@reboot\n"},
    ),
    Case(
        "both",
        Answer.WARNING,
        "so does kexecwatchd",
        {**PLAIN, DROP_IN: "[Service]\nSystemCallFilter=\n", **RUNS, TOML: OURS},
    ),
    Case(
        "half of the filter is opened",
        Answer.PROBLEM,
        "nobody else",
        {**PLAIN, DROP_IN: "[Service]\nSystemCallFilter=kexec_load\n", **RUNS, TOML: OURS},
    ),
    Case(
        "Fedora hands it over",
        Answer.OK,
        "kdump-utils does",
        {f"{RULES}/98-kexec.rules": FEDORA, UNIT: UDEVD},
    ),
    Case(
        "SUSE writes its rule to /run",
        Answer.PROBLEM,
        "SUSE's kdump means to",
        {"run/udev/rules.d/70-kdump.rules": SUSE, UNIT: UDEVD},
    ),
    Case(
        "none",
        Answer.OK,
        "no udev rule of another tool",
        {f"{RULES}/80-kexecwatchd.rules": 'SUBSYSTEM=="memory", TAG+="systemd"\n', UNIT: UDEVD},
    ),
    Case(
        "masked",
        Answer.OK,
        "no udev rule of another tool",
        {**PLAIN, "etc/udev/rules.d/50-kdump-tools.rules": ""},
    ),
    Case(
        "not systemd's udev",
        Answer.CANNOT_TELL,
        "no systemd-udevd.service",
        {f"{RULES}/50-kdump-tools.rules": DEBIAN},
    ),
)

TRY_RESTART = (
    'RUN+="/usr/bin/systemctl reset-failed kdump", RUN+="/usr/bin/systemctl try-restart kdump"'
)

COMMANDS = (
    # what a rule runs, and whether in udev's own service; None: it loads nothing
    ('PROGRAM="/usr/sbin/kdump-config try-reload"', True),
    ('PROGRAM="/etc/init.d/boot.kdump try-restart"', True),
    ('IMPORT{program}="/sbin/kexec -p /boot/vmlinuz"', True),
    ("RUN+=\"/bin/sh -c 'systemctl is-active kdump || exit 0; /x/kdump-udev-throttler'\"", True),
    ('RUN+="/usr/bin/systemd-run --no-block /usr/lib/udev/kdump-udev-throttler"', False),
    (TRY_RESTART, False),
    ('TAG+="systemd", ENV{SYSTEMD_WANTS}+="kdump-reload.service"', False),
    ('TAG+="systemd", ENV{SYSTEMD_WANTS}+="kexecwatchd.service"', None),
    ('RUN+="/usr/bin/systemctl try-restart kexecwatchd"', None),
    ('RUN+="/usr/bin/systemctl is-active kdump"', None),
    ('PROGRAM="/bin/cat /sys/kernel/kexec_crash_loaded"', None),
    ('ENV{SYSTEMD_WANTS}=="kdump.service"', None),
    ('RUN{builtin}+="kmod load kexec"', None),
    ('# PROGRAM="/usr/sbin/kdump-config try-reload"', None),
)


@pytest.mark.parametrize(("rule", "in_udev"), COMMANDS)
def test_what_loads(rule: str, in_udev: bool | None) -> None:
    comment, rule = ("# ", rule[2:]) if rule.startswith("#") else ("", rule)
    text = f'{comment}SUBSYSTEM=="memory", ACTION=="online", {rule}\nSUBSYSTEM=="cpu"\n'
    found = rivals([parse(text, "/x/99-a.rules")])
    assert [rival.in_udev for rival in found] == ([] if in_udev is None else [in_udev])


def test_rules_for_other_devices_are_none() -> None:
    text = 'SUBSYSTEM=="block", PROGRAM="/usr/sbin/kdump-config try-reload"\n'
    assert rivals([parse(text, "/x/50-kdump-tools.rules")]) == []


def test_a_rule_linked_to_dev_null_is_none(tmp_path: Path) -> None:
    case = Case("masked by a link", Answer.OK, "no udev rule", PLAIN)
    link = tmp_path / "etc/udev/rules.d/50-kdump-tools.rules"
    link.parent.mkdir(parents=True)
    link.symlink_to("/dev/null")
    answer_of(CHECK, case, tmp_path)


def test_the_remedy_names_the_verb_that_masks_it(tmp_path: Path) -> None:
    finding = answer_of(CHECK, CASES[0], tmp_path)
    assert "kexecwatchctl takeover" in finding.remedy
    assert finding.facts["denied_system_calls"] == ["kexec_load", "kexec_file_load"]
