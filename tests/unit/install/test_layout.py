# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from kexecwatchd.install.layout import File, LayoutError, Link, items

ENVIRONMENT = PurePosixPath("/opt/kexecwatchd")
UNITS = "usr/lib/systemd/system"
PROGRAM = b"#!/usr/bin/python3 -I\nraise SystemExit(0)\n"
DATA = {
    "etc/kexecwatchd/kexecwatchd.toml": b"[crash]\n",
    "usr/bin/kexecwatchctl": PROGRAM,
    "usr/lib/kexecwatchd/check-kexec": PROGRAM,
    "usr/lib/kexecwatchd/record-boot-memory": PROGRAM,
    "usr/sbin/kexecwatchd": PROGRAM,
    f"{UNITS}/kexecwatchd.service": b"[Service]\nExecStart=/usr/sbin/kexecwatchd\n",
    f"{UNITS}/kexecwatchd-boot-memory.service": (
        b"[Service]\nExecStart=/usr/lib/kexecwatchd/record-boot-memory\n"
    ),
    f"{UNITS}/kexecwatchd-kexec-check.service": (
        b"[Service]\nExecStart=/usr/lib/kexecwatchd/check-kexec\n"
    ),
    "usr/share/polkit-1/actions/org.kexecwatch1.policy": b"<policy/>\n",
    "usr/share/man/man8/kexecwatchd.8": b".TH\n",
}


def files(data: dict[str, bytes]) -> dict[str, File]:
    return {str(i.path): i for i in items(data, ENVIRONMENT) if isinstance(i, File)}


def test_everything_goes_where_an_administrator_s_files_belong() -> None:
    assert sorted(files(DATA)) == [
        "/etc/kexecwatchd/kexecwatchd.toml",
        "/etc/systemd/system/kexecwatchd-boot-memory.service",
        "/etc/systemd/system/kexecwatchd-kexec-check.service",
        "/etc/systemd/system/kexecwatchd.service",
        "/opt/kexecwatchd/lib/kexecwatchd/check-kexec",
        "/opt/kexecwatchd/lib/kexecwatchd/kexecwatchctl",
        "/opt/kexecwatchd/lib/kexecwatchd/kexecwatchd",
        "/opt/kexecwatchd/lib/kexecwatchd/record-boot-memory",
        "/usr/local/share/man/man8/kexecwatchd.8",
        "/usr/share/polkit-1/actions/org.kexecwatch1.policy",
    ]


def test_links_lead_to_what_is_there() -> None:
    links = {str(i.path): i.target for i in items(DATA, ENVIRONMENT) if isinstance(i, Link)}
    wants = "/etc/systemd/system"
    assert links == {
        f"{wants}/kexec.target.wants/kexecwatchd-kexec-check.service": (
            "../kexecwatchd-kexec-check.service"
        ),
        f"{wants}/sysinit.target.wants/kexecwatchd-boot-memory.service": (
            "../kexecwatchd-boot-memory.service"
        ),
        "/usr/local/bin/kexecwatchctl": "/opt/kexecwatchd/lib/kexecwatchd/kexecwatchctl",
        "/usr/local/sbin/kexecwatchd": "/opt/kexecwatchd/lib/kexecwatchd/kexecwatchd",
    }


def test_programs_run_in_the_environment_and_units_start_them() -> None:
    found = files(DATA)
    for name in ("check-kexec", "kexecwatchctl", "kexecwatchd", "record-boot-memory"):
        program = found[f"/opt/kexecwatchd/lib/kexecwatchd/{name}"]
        assert program.content == PROGRAM.replace(b"/usr/bin/", b"/opt/kexecwatchd/bin/")
        assert program.mode == 0o755
    assert found["/etc/systemd/system/kexecwatchd.service"].content == (
        b"[Service]\nExecStart=/opt/kexecwatchd/lib/kexecwatchd/kexecwatchd\n"
    )
    assert found["/etc/systemd/system/kexecwatchd-kexec-check.service"].content == (
        b"[Service]\nExecStart=/opt/kexecwatchd/lib/kexecwatchd/check-kexec\n"
    )


def test_nothing_else_in_a_unit_changes() -> None:
    text = "# /usr/lib/kexec\n[Service]\nExecStart=/usr/sbin/kexecwatchd\nExecReload=kill\n"
    unit = {f"{UNITS}/kexecwatchd.service": text.encode()}
    changed = files(DATA | unit)["/etc/systemd/system/kexecwatchd.service"].content.decode()
    assert changed.splitlines()[2] == "ExecStart=/opt/kexecwatchd/lib/kexecwatchd/kexecwatchd"
    assert [*changed.splitlines()[:2], *changed.splitlines()[3:]] == [
        *text.splitlines()[:2],
        *text.splitlines()[3:],
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("usr/bin/kexecwatchctl", b"#!/usr/bin/python3\n", "does not begin with"),
        (f"{UNITS}/kexecwatchd.service", b"[Service]\n", "does not start"),
        (f"{UNITS}/kexecwatchd.service", b"ExecStart=/usr/bin/kexecd\n", "does not start"),
        (f"{UNITS}/kexecwatchd.service", b"ExecStart=@/usr/sbin/kexecwatchd x\n", "does not start"),
        (
            f"{UNITS}/kexecwatchd.service",
            b"ExecStart=/usr/sbin/kexecwatchd\nExecStop=/usr/lib/kexecwatchd/stop\n",
            "names something at /usr/lib/kexecwatchd",
        ),
        ("usr/lib/sysusers.d/kexecwatchd.conf", b"", "nobody says where it belongs"),
    ],
)
def test_what_it_does_not_know_is_refused(name: str, content: bytes, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        items(DATA | {name: content}, ENVIRONMENT)


@pytest.mark.parametrize("name", [name for name in DATA if "sbin" in name or ".service" in name])
def test_what_is_missing_is_named(name: str) -> None:
    data = {n: content for n, content in DATA.items() if n != name}
    with pytest.raises(LayoutError, match=name):
        items(data, ENVIRONMENT)
