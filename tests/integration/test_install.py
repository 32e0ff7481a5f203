# SPDX-License-Identifier: GPL-2.0-or-later
"""What make install puts where, and that systemd and udev accept it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kexecwatchd import __version__, gate
from kexecwatchd.config import Config, Sources, load
from kexecwatchd.messages import MESSAGES
from tests.conftest import NOT_HERE

SOURCE = Path(__file__).parent.parent.parent
PACKAGE = "usr/lib/python3/dist-packages/kexecwatchd"
UNITS = "usr/lib/systemd/system"
UNIT = f"{UNITS}/kexecwatchd.service"
EARLY_UNIT = f"{UNITS}/kexecwatchd-boot-memory.service"
EARLY_PROGRAM = "usr/lib/kexecwatchd/record-boot-memory"
GATE_UNIT = f"{UNITS}/kexecwatchd-kexec-check.service"
GATE_PROGRAM = "usr/lib/kexecwatchd/check-kexec"
RULES = "usr/lib/udev/rules.d/70-kexecwatchd.rules"
CATALOG = "usr/lib/systemd/catalog/kexecwatchd.catalog"
LOCAL_CONFIG = "etc/kexecwatchd/kexecwatchd.toml"
# Links that have systemd start a unit whether or not anyone enabled it.
WANTED = {
    f"{UNITS}/sysinit.target.wants/kexecwatchd-boot-memory.service": EARLY_UNIT,
    f"{UNITS}/kexec.target.wants/kexecwatchd-kexec-check.service": GATE_UNIT,
}
FILES = {
    "etc/kexecwatchd/kexecwatchd.toml": 0o644,
    "usr/bin/kexecwatchctl": 0o755,
    "usr/lib/kexecwatchd/kexecwatchd.toml": 0o644,
    CATALOG: 0o644,
    "usr/sbin/kexecwatchd": 0o755,
    "usr/share/dbus-1/interfaces/org.kexecwatch1.Image.xml": 0o644,
    "usr/share/dbus-1/interfaces/org.kexecwatch1.Manager.xml": 0o644,
    "usr/share/dbus-1/system.d/org.kexecwatch1.conf": 0o644,
    "usr/share/polkit-1/actions/org.kexecwatch1.policy": 0o644,
    "usr/share/kexecwatchd/monitoring/kexecwatchd.grafana.json": 0o644,
    "usr/share/kexecwatchd/monitoring/kexecwatchd.rules.yml": 0o644,
    "usr/share/bash-completion/completions/kexecwatchctl": 0o644,
    "usr/share/zsh/vendor-completions/_kexecwatchctl": 0o644,
    **dict.fromkeys(
        [
            f"usr/share/kexecwatchd/{path.relative_to(SOURCE)}"
            for path in SOURCE.glob("schema/*.json")
        ],
        0o644,
    ),
    "usr/share/man/man1/kexecwatchctl.1": 0o644,
    "usr/share/man/man5/kexecwatchd.toml.5": 0o644,
    "usr/share/man/man5/org.kexecwatch1.5": 0o644,
    "usr/share/man/man8/kexecwatchd.8": 0o644,
    UNIT: 0o644,
    RULES: 0o644,
    EARLY_UNIT: 0o644,
    EARLY_PROGRAM: 0o755,
    GATE_UNIT: 0o644,
    GATE_PROGRAM: 0o755,
    **dict.fromkeys(WANTED, 0o644),
}


def make(target: str, root: Path) -> str:
    # The variables by which an outer make speaks to inner ones are not meant for this one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    command = ["make", "--no-print-directory", target, f"DESTDIR={root}"]
    done = subprocess.run(
        command, cwd=SOURCE, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tree(root: Path) -> dict[str, int]:
    """Each file below `root`, with its permissions."""
    return {
        str(path.relative_to(root)): path.stat().st_mode & 0o7777
        for path in root.rglob("*")
        if not path.is_dir()
    }


def tool(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a tool of the system; skips where it does not exist."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{NOT_HERE} no {command[0]}")
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("installed")
    make("install", root)
    return root


def test_everything_is_in_its_place(installed: Path) -> None:
    modules = {
        f"{PACKAGE}/{path.relative_to(SOURCE / 'kexecwatchd')}": 0o644
        for path in (SOURCE / "kexecwatchd").rglob("*.py")
    }
    assert tree(installed) == FILES | modules


@pytest.mark.parametrize("program", ["usr/sbin/kexecwatchd", "usr/bin/kexecwatchctl"])
def test_programs_run_from_the_installed_package(installed: Path, program: str) -> None:
    script = installed / program
    assert script.read_text().startswith("#!/usr/bin/python3 -I\n")
    packages = {"PYTHONPATH": str((installed / PACKAGE).parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, script, "--version"],
        cwd="/",
        env=os.environ | packages,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [script.name, __version__]


def test_the_installed_configuration_is_the_default(installed: Path) -> None:
    assert load(Sources(installed)) == Config()


def test_the_configuration_shows_each_key_and_its_default(tmp_path: Path) -> None:
    text = (SOURCE / "packaging/kexecwatchd.toml").read_text()
    lines = [
        line[1:] if line.startswith("#") and line[1:2].isalpha() else line
        for line in text.splitlines()
    ]
    path = tmp_path / "all.toml"
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    shown = load(Sources(explicit=path))
    for table in (shown.crash, shown.reboot, shown.pacing):
        assert table.model_fields_set == set(type(table).model_fields)
    assert shown.pacing == Config().pacing
    assert (shown.crash.mode, shown.reboot.mode) == (Config().crash.mode, Config().reboot.mode)


def test_installing_again_keeps_the_local_configuration(tmp_path: Path) -> None:
    make("install", tmp_path)
    (tmp_path / LOCAL_CONFIG).write_text("[crash]\n")
    make("install", tmp_path)
    assert (tmp_path / LOCAL_CONFIG).read_text() == "[crash]\n"


def test_uninstalling_leaves_the_local_configuration_and_says_so(tmp_path: Path) -> None:
    make("install", tmp_path)
    said = make("uninstall", tmp_path)
    assert tree(tmp_path) == {LOCAL_CONFIG: 0o644}
    assert f"{tmp_path}/etc/kexecwatchd is left for you to remove" in said


@pytest.mark.parametrize(("link", "unit"), WANTED.items())
def test_what_must_always_run_is_linked_to_its_target(
    installed: Path, link: str, unit: str
) -> None:
    assert (installed / link).resolve() == (installed / unit).resolve()
    assert "\n[Install]\n" not in (installed / unit).read_text()


@pytest.mark.parametrize("name", [UNIT, EARLY_UNIT, GATE_UNIT])
def test_systemd_accepts_the_units(installed: Path, tmp_path: Path, name: str) -> None:
    # The program is looked for on this machine, so it is given the installed one.
    unit = tmp_path / Path(name).name
    text = (installed / name).read_text()
    unit.write_text(text.replace("=/usr/", f"={installed}/usr/"))
    done = tool(["systemd-analyze", "verify", "--man=no", unit])
    said = [line for line in done.stderr.splitlines() if "kexecwatchd" in line]
    assert (done.returncode, said) == (0, [])


def test_udev_accepts_the_rules(installed: Path) -> None:
    done = tool(["udevadm", "verify", "--no-summary", installed / RULES])
    if "unrecognized option" in done.stderr or "Unknown command" in done.stderr:
        pytest.skip(f"{NOT_HERE} udevadm verify came with systemd 254")
    assert done.returncode == 0, done.stderr


def test_the_journal_accepts_the_catalog(installed: Path, tmp_path: Path) -> None:
    (tmp_path / CATALOG).parent.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(installed / CATALOG, tmp_path / CATALOG)
    done = tool(["journalctl", f"--root={tmp_path}", "--update-catalog"])
    assert (done.returncode, done.stderr) == (0, "")
    listed = tool(["journalctl", f"--root={tmp_path}", "--list-catalog"]).stdout
    assert {line.split()[0] for line in listed.splitlines()} == {m.id for m in MESSAGES}


def test_the_daemon_leaves_the_mark_that_udev_looks_for(installed: Path) -> None:
    """And the early unit, which runs in each boot, does not."""
    (mark,) = re.findall(r'TEST!="/run/(\S+)"', (installed / RULES).read_text())
    made = {
        name: re.findall(r"^RuntimeDirectory=(.*)$", (installed / name).read_text(), re.MULTILINE)
        for name in (UNIT, EARLY_UNIT)
    }
    assert mark in made[UNIT][0].split()
    assert mark not in made[EARLY_UNIT][0].split()


def test_udev_starts_the_unit_and_runs_nothing(installed: Path) -> None:
    rules = [
        line
        for line in (installed / RULES).read_text().splitlines()
        if line and not line.startswith("#")
    ]
    (rule,) = rules
    tokens = rule.split(", ")
    assert f'ENV{{SYSTEMD_WANTS}}+="{Path(UNIT).name}"' in tokens
    assert 'TAG+="systemd"' in tokens
    assert not [t for t in tokens if t.startswith(("RUN", "PROGRAM", "IMPORT"))]


def test_the_unit_forces_a_reboot_for_what_the_gate_refuses_alone(installed: Path) -> None:
    """Exit code 1 is Python's own, for a gate that could not run."""
    text = (installed / GATE_UNIT).read_text()
    (fine,) = re.findall(r"^SuccessExitStatus=(.*)$", text, re.MULTILINE)
    assert "1" in fine.split()
    assert str(gate.REFUSE) not in fine.split()
    assert "\nFailureAction=reboot-force\n" in text


@pytest.mark.parametrize("program", [EARLY_PROGRAM, GATE_PROGRAM])
def test_helpers_are_programs_of_the_installed_package(installed: Path, program: str) -> None:
    first, *_, imported, _, last = (installed / program).read_text().splitlines()
    assert first == "#!/usr/bin/python3 -I"
    module = imported.split()[1]
    assert (installed / PACKAGE).parent.joinpath(*module.split(".")).with_suffix(".py").exists()
    assert last == "raise SystemExit(main())"
