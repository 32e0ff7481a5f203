# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian package and the RPM: what is in them, what they ask for, and what their scripts do.

Building takes seconds, and these tests run twice and in several workers; but a package is built
only when the sources have changed (tools/package.py), so they ask for it like everyone else.
"""

from __future__ import annotations

import io
import re
import shutil
import stat
import subprocess
import tarfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kexecwatchd import __version__
from tests.integration.test_install import FILES, LOCAL_CONFIG, PACKAGE, SOURCE
from tools import package

UNIT = "kexecwatchd.service"
DOCUMENTATION = "usr/share/doc/kexecwatchd/"
SITE_PACKAGES = re.compile(r"usr/lib/python3\.\d+/site-packages/kexecwatchd")
# What each has beside make install, and the other does not.
DEBIANS = {
    "usr/share/lintian/overrides/kexecwatchd",
    *(f"{DOCUMENTATION}{name}" for name in ("README.Debian", "changelog", "copyright")),
}
RPMS = {"usr/share/licenses/kexecwatchd/COPYING"}


@dataclass(frozen=True)
class Entry:
    """A file in a package; `target` is that of a link."""

    mode: int
    owner: str
    target: str


Entries = dict[str, Entry]


def output(command: Sequence[str | Path]) -> bytes:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"needs {command[0]}, which make setup installs")
    return subprocess.run(command, capture_output=True, check=True).stdout


def built(kind: str, program: str) -> Path:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}, which make setup installs")
    return package.build(kind, SOURCE, SOURCE / "build" / kind, SOURCE / "dist")


@pytest.fixture(scope="module")
def deb() -> Path:
    return built("deb", "dpkg-buildpackage")


@pytest.fixture(scope="module")
def rpm() -> Path:
    return built("rpm", "rpmbuild")


@pytest.fixture(scope="module")
def deb_entries(deb: Path) -> Entries:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(output(["dpkg-deb", "--fsys-tarfile", deb]))) as archive:
        for member in archive:
            kind = stat.S_IFDIR if member.isdir() else stat.S_IFLNK if member.issym() else 0
            mode = (kind or stat.S_IFREG) | member.mode
            owner = f"{member.uname}:{member.gname}"
            found[member.name.removeprefix("./")] = Entry(mode, owner, member.linkname)
    return found


@pytest.fixture(scope="module")
def rpm_entries(rpm: Path) -> Entries:
    tags = "%{FILENAMES}", "%{FILEMODES}", "%{FILEUSERNAME}:%{FILEGROUPNAME}", "%{FILELINKTOS}"
    listed = rpm_says(rpm, r"[" + r"\t".join(tags) + r"\n]")
    rows = [line.split("\t") for line in listed.splitlines()]
    return {name.lstrip("/"): Entry(int(mode), owner, to) for name, mode, owner, to in rows}


def rpm_says(rpm: Path, query: str) -> str:
    return output(["rpm", "-qp", "--nosignature", "--queryformat", query, rpm]).decode()


def debs_field(deb: Path, field: str) -> list[str]:
    return output(["dpkg-deb", "--field", deb, field]).decode().strip().split(", ")


def debs_script(deb: Path, name: str) -> str:
    return output(["dpkg-deb", "--info", deb, name]).decode()


def plain(entries: Entries) -> dict[str, tuple[int, str]]:
    """Files alone, and where make install puts them: mode and link target of each."""
    found = {}
    for name, entry in entries.items():
        if stat.S_ISDIR(entry.mode):
            continue
        place = SITE_PACKAGES.sub(PACKAGE, name)
        place = place.replace("zsh/site-functions", "zsh/vendor-completions")
        if place.startswith(("usr/share/man/", DOCUMENTATION)):
            place = place.removesuffix(".gz")
        found[place] = (stat.S_IMODE(entry.mode), entry.target)
    return found


def test_all_agree_on_the_version(deb: Path, rpm: Path) -> None:
    assert deb.name == f"kexecwatchd_{__version__}_all.deb"
    assert rpm_says(rpm, "%{VERSION}") == __version__
    assert rpm_says(rpm, "%{CHANGELOGNAME}").endswith(f" {__version__}-1")
    changelog = (SOURCE / "packaging/debian/changelog").read_text()
    assert changelog.startswith(f"kexecwatchd ({__version__}) ")


def test_the_debian_package_has_what_make_install_puts_there(deb_entries: Entries) -> None:
    modules = {
        f"{PACKAGE}/{path.relative_to(SOURCE / 'kexecwatchd')}": 0o644
        for path in (SOURCE / "kexecwatchd").rglob("*.py")
    }
    links = {name: mode for name, (mode, to) in plain(deb_entries).items() if to}
    assert {
        name: mode
        for name, (mode, _) in plain(deb_entries).items()
        if not name.startswith(DOCUMENTATION) and name not in DEBIANS
    } == FILES | modules | links
    assert links.keys() <= FILES.keys()


def test_both_have_the_same_files(deb_entries: Entries, rpm_entries: Entries) -> None:
    debs, rpms = plain(deb_entries), plain(rpm_entries)
    assert debs.keys() >= DEBIANS
    assert rpms.keys() >= RPMS
    assert {name: debs[name] for name in debs.keys() - DEBIANS} == {
        name: rpms[name] for name in rpms.keys() - RPMS
    }


def test_all_is_roots_and_nobody_elses_to_change(
    deb_entries: Entries, rpm_entries: Entries
) -> None:
    for entries in (deb_entries, rpm_entries):
        assert {entry.owner for entry in entries.values()} == {"root:root"}
        modes = {entry.mode for entry in entries.values() if not stat.S_ISLNK(entry.mode)}
        files = {stat.S_IFREG | 0o644, stat.S_IFREG | 0o755}
        assert modes == {stat.S_IFDIR | 0o755, *files}


def test_programs_stay_isolated(deb: Path, deb_entries: Entries) -> None:
    """Debian 13's dh_python3 would make the first line of each a plain one."""
    programs = [
        name
        for name, entry in deb_entries.items()
        if stat.S_ISREG(entry.mode) and entry.mode & 0o111
    ]
    assert len(programs) == 4
    with tarfile.open(fileobj=io.BytesIO(output(["dpkg-deb", "--fsys-tarfile", deb]))) as archive:
        for name in programs:
            content = archive.extractfile(f"./{name}")
            assert content is not None
            assert content.readline() == b"#!/usr/bin/python3 -I\n"


def test_neither_has_bytecode(deb_entries: Entries, rpm_entries: Entries) -> None:
    """Each system makes it for its own Python."""
    names = [*deb_entries, *rpm_entries]
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_configuration_is_the_administrators(deb: Path, rpm: Path) -> None:
    assert output(["dpkg-deb", "--info", deb, "conffiles"]).decode().split() == [f"/{LOCAL_CONFIG}"]
    flags = rpm_says(rpm, r"[%{FILENAMES} %{FILEFLAGS:fflags}\n]").splitlines()
    # Configuration, and not to be replaced.
    assert [line for line in flags if "c" in line.rpartition(" ")[2]] == [f"/{LOCAL_CONFIG} cn"]


def test_both_ask_for_the_libraries_of_the_project(deb: Path, rpm: Path) -> None:
    wanted = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {"systemd-python": "systemd"}
    debs, rpms = set(), set()
    for requirement in wanted:
        ((name, bounds),) = re.findall(r"^([\w-]+)(.*)", requirement)
        name = names.get(name, name)
        for bound in bounds.split(","):
            if bound.startswith(">="):
                debs.add(f"python3-{name} (>= {bound[2:]})")
                rpms.add(f"python3-{name.replace('prometheus-', 'prometheus_')} >= {bound[2:]}")
            else:
                debs.add(f"python3-{name} (<< {bound[1:]}~)")
                rpms.add(f"python3-{name} < {bound[1:]}")
    library = re.compile("python3-")
    assert {d for d in debs_field(deb, "Depends") if library.match(d)} == debs
    asked = output(["rpm", "-qp", "--nosignature", "--requires", rpm]).decode().splitlines()
    assert {line for line in asked if library.match(line)} == rpms


def test_only_the_daemon_is_enabled_and_started(deb: Path, rpm: Path) -> None:
    scripts = [debs_script(deb, name) for name in ("postinst", "prerm", "postrm")]
    scripts += [rpm_says(rpm, "%{" + tag + "}") for tag in ("POSTIN", "PREUN", "POSTUN")]
    units = {unit for script in scripts for unit in re.findall(r"[\w-]+\.service", script)}
    assert units == {UNIT}


def test_an_upgrade_restarts_the_daemon_without_a_long_stop(deb: Path) -> None:
    postinst, prerm = debs_script(deb, "postinst"), debs_script(deb, "prerm")
    assert f"deb-systemd-invoke $_dh_action '{UNIT}'" in postinst
    (stop,) = re.findall(r"if (.*); then\n\tdeb-systemd-invoke stop", prerm.replace("] ;", "];"))
    assert '[ "$1" = remove ]' in stop


@pytest.mark.parametrize(
    ("tag", "left", "done"),
    [
        ("POSTIN", 1, [f"--no-reload preset {UNIT}"]),
        ("POSTIN", 2, []),
        ("PREUN", 1, []),
        ("PREUN", 0, [f"--no-reload disable --now {UNIT}"]),
        ("POSTUN", 1, ["daemon-reload", f"try-restart {UNIT}"]),
        ("POSTUN", 0, ["daemon-reload"]),
    ],
)
def test_the_rpms_scripts_do_what_fedoras_macros_would(
    rpm: Path, tmp_path: Path, tag: str, left: int, done: list[str]
) -> None:
    asked = tmp_path / "asked"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >>{asked}\nexit 1\n')
    systemctl.chmod(0o755)
    script = rpm_says(rpm, "%{" + tag + "}")
    command = ["/bin/sh", "-e", "-c", script, "scriptlet", str(left)]
    subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    assert (asked.read_text().splitlines() if asked.exists() else []) == done


def test_lintian_finds_nothing(deb: Path) -> None:
    command = ["lintian", "--allow-root", "--display-info", "--pedantic", "--display-experimental"]
    said = output([*command, "--fail-on", "none", deb]).decode().splitlines()
    # Debian 12's asks for scripts of SysV's init. That cannot be answered in an override: 13's no
    # longer knows the question, and calls the answer an error.
    sysv = "package-supports-alternative-init-but-no-init.d-script"
    assert [line for line in said if sysv not in line.split()] == []


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_building_again_makes_the_same_bytes(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    first: Path = request.getfixturevalue(kind)
    copy = tmp_path / "elsewhere"
    package.export(SOURCE, package.sources(SOURCE), copy)
    again = package.build(kind, copy, tmp_path / "build", tmp_path)
    assert again != first
    assert (again.name, again.read_bytes()) == (first.name, first.read_bytes())
