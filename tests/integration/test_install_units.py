# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl install-units`, from the wheel in an environment of its own, into an image."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from kexecwatchd import __version__, takeover
from kexecwatchd.config import Config, Sources, load
from kexecwatchd.ctl.exitcodes import ExitCode
from tests.integration.test_install import PACKAGE, make, tool, tree
from tests.integration.test_wheel import build

UNITS = ("kexecwatchd", "kexecwatchd-boot-memory", "kexecwatchd-kexec-check")
RECORD = "var/lib/kexecwatchd/install-units.json"


@dataclass(frozen=True)
class Image:
    """An image with an environment, which exists at the same path here."""

    root: Path
    environment: Path

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.ctl("install-units", "--root", str(self.root), *options)

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.environment / "bin/python3"), "-I", "-m", "kexecwatchd.ctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    @property
    def programs(self) -> Path:
        """Where its programs are, in the image."""
        return self.root / self.environment.relative_to("/") / "lib/kexecwatchd"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` makes, with the libraries of the tests' own environment."""
    top = tmp_path_factory.mktemp("environment").resolve() / "kexecwatchd"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", top], check=True)
    (packages,) = top.glob("lib/python3*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    with zipfile.ZipFile(build(tmp_path_factory.mktemp("wheel"))) as wheel:
        wheel.extractall(packages)
    return top


@pytest.fixture
def image(environment: Path, tmp_path: Path) -> Image:
    there = tmp_path / "image" / environment.relative_to("/")
    there.mkdir(parents=True)
    (there / "pyvenv.cfg").touch()
    return Image(tmp_path / "image", environment)


def test_everything_that_make_install_installs_is_installed(image: Image, tmp_path: Path) -> None:
    done = image.install()
    assert (done.returncode, done.stderr) == (0, "")
    make("install", tmp_path / "made")
    made = {
        Path(name).name: mode
        for name, mode in tree(tmp_path / "made").items()
        if PACKAGE not in name
    }
    added = {
        path.name: path.stat().st_mode & 0o7777
        for path in image.root.rglob("*")
        if path.is_file() and path.name not in (Path(RECORD).name, "pyvenv.cfg")
    }
    assert added == made
    links = [path.name for path in image.root.rglob("*") if path.is_symlink()]
    assert sorted(links) == [
        "kexecwatchctl",
        "kexecwatchd",
        *(f"{unit}.service" for unit in UNITS[1:]),
    ]


def test_programs_run_and_units_start_them(image: Image) -> None:
    image.install()
    for name in ("kexecwatchctl", "kexecwatchd"):
        # By the kernel, from the first line.
        done = tool([image.programs / name, "--version"])
        assert done.stdout.split() == [name, __version__], done.stderr
    for unit in UNITS:
        text = (image.root / f"etc/systemd/system/{unit}.service").read_text()
        assert f"\nExecStart={image.environment}/lib/kexecwatchd/" in text


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_units(image: Image, tmp_path: Path, name: str) -> None:
    image.install()
    unit = tmp_path / f"{name}.service"
    text = (image.root / f"etc/systemd/system/{unit.name}").read_text()
    unit.write_text(text.replace(f"={image.environment}/", f"={image.root}{image.environment}/"))
    done = tool(["systemd-analyze", "verify", "--man=no", unit])
    said = [line for line in done.stderr.splitlines() if "kexecwatchd" in line]
    assert (done.returncode, said) == (0, [])


def test_the_journal_finds_the_catalog(image: Image) -> None:
    image.install()
    (image.root / "var/lib/systemd/catalog").mkdir(parents=True)
    done = tool(["journalctl", f"--root={image.root}", "--update-catalog"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "kexecwatchd" in tool(["journalctl", f"--root={image.root}", "--list-catalog"]).stdout


def test_the_configuration_is_the_default_and_stays_the_administrator_s(image: Image) -> None:
    image.install()
    assert load(Sources(image.root)) == Config()
    config = image.root / "etc/kexecwatchd/kexecwatchd.toml"
    config.write_text('[crash]\nmode = "observe"\n')
    done = image.install()
    assert "left as you made it: /etc/kexecwatchd/kexecwatchd.toml" in done.stderr
    image.install("--remove")
    assert "observe" in config.read_text()


def test_it_leaves_as_little_as_it_found(image: Image) -> None:
    before = sorted(image.root.rglob("*"))
    image.install()
    done = image.install("--remove")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(image.root.rglob("*")) == before
    assert "Nothing" in image.install("--remove").stdout


def test_a_rule_that_takeover_switched_off_is_on_again(image: Image) -> None:
    image.install()
    takeover.take(image.root, ["50-kdump-tools.rules"])
    listed = image.install("--remove", "--dry-run").stdout
    assert "remove  /etc/udev/rules.d/50-kdump-tools.rules\n" in listed
    done = image.install("--remove")
    assert "Switched on again: 50-kdump-tools.rules\n" in done.stdout
    assert not (image.root / "etc/udev").exists()


def test_what_stands_in_the_place_of_takeover_s_link_is_named_and_left(image: Image) -> None:
    image.install()
    takeover.take(image.root, ["50-kdump-tools.rules"])
    rule = image.root / "etc/udev/rules.d/50-kdump-tools.rules"
    rule.unlink()
    rule.write_text("# mine\n")
    done = image.install("--remove")
    assert "left as you made it: /etc/udev/rules.d/50-kdump-tools.rules" in done.stderr
    assert rule.read_text() == "# mine\n"


def test_a_dry_run_lists_and_does_nothing(image: Image) -> None:
    before = sorted(image.root.rglob("*"))
    listed = image.install("--dry-run").stdout
    assert "write   /etc/systemd/system/kexecwatchd.service\n" in listed
    assert sorted(image.root.rglob("*")) == before
    image.install()
    assert image.install("--dry-run").stdout == "Nothing is to be done.\n"
    assert "remove  /usr/local/sbin/kexecwatchd\n" in image.install("--remove", "--dry-run").stdout


def refused(image: Image, said: str) -> None:
    before = sorted(image.root.rglob("*"))
    done = image.install()
    assert done.returncode == ExitCode.ERROR
    assert said in done.stderr
    assert sorted(image.root.rglob("*")) == before


def test_beside_a_package_it_is_refused(image: Image) -> None:
    unit = image.root / "usr/lib/systemd/system/kexecwatchd.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    refused(image, f"{unit} is there: kexecwatchd is installed already")


def test_an_environment_that_others_may_write_to_is_refused(image: Image) -> None:
    (image.programs.parent.parent / "pyvenv.cfg").chmod(0o666)
    refused(image, "pyvenv.cfg: others may write to it (mode 0666)")


def test_one_whose_libraries_are_not_in_it_is_refused(image: Image, tmp_path: Path) -> None:
    """pip counts on root's ~/.local, where units do not look."""
    (packages,) = image.environment.glob("lib/python3*/site-packages")
    libraries = packages / "libraries.pth"
    elsewhere = libraries.read_text().strip()
    libraries.rename(tmp_path / "libraries.pth")
    try:
        before = sorted(image.root.rglob("*"))
        command = [image.environment / "bin/python3", "-m", "kexecwatchd.ctl", "install-units"]
        done = subprocess.run(
            [*map(str, command), "--root", str(image.root)],
            cwd="/",
            env=os.environ | {"PYTHONPATH": elsewhere},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        (tmp_path / "libraries.pth").rename(libraries)
    assert done.returncode == ExitCode.ERROR
    assert "kexecwatchd cannot be started" in done.stderr
    assert "No module named" in done.stderr
    assert sorted(image.root.rglob("*")) == before


def test_what_is_in_the_way_stops_it(image: Image) -> None:
    rule = image.root / "etc/udev/rules.d/70-kexecwatchd.rules"
    rule.parent.mkdir(parents=True)
    rule.write_text("# mine\n")
    refused(image, "in the way, and not ours:\n  /etc/udev/rules.d/70-kexecwatchd.rules")


@pytest.mark.skipif(os.geteuid() != 0, reason="not on this platform: only root becomes nobody")
def test_without_rights_it_is_refused(image: Image) -> None:
    command = [sys.executable, "-m", "kexecwatchd.ctl", "install-units"]
    done = subprocess.run(command, user=65534, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        ExitCode.ERROR,
        "kexecwatchctl: units are root's to install: run it as root\n",
    )


def test_without_a_wheel_there_is_nothing_to_install(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kexecwatchd.ctl", "install-units", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.ERROR
    assert "was not installed from a wheel" in done.stderr
