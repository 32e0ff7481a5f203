# SPDX-License-Identifier: GPL-2.0-or-later
"""Set-up of a Debian machine for development; run by make, needs Python's own library only.

    setup.py packages STAGE             install the Debian packages of STAGE that are missing
    setup.py programs DIRECTORY         fetch the programs that are run from there, uninstalled
    setup.py venv DIRECTORY FILE        a new virtual environment with the packages pinned in FILE

Says what it is about to install, and when it fails, what to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "check": {
        "a virtual environment": ("python3-venv",),
        "building systemd-python": (
            "gcc",
            "libc6-dev",
            "libsystemd-dev",
            "pkg-config",
            "python3-dev",
        ),
        "pyudev": ("libudev1",),
        "tests with a private bus": ("dbus-daemon",),
        "checking the unit file": ("systemd",),
        "checking the manual pages": ("mandoc",),
        "completion in zsh": ("zsh",),
        "judging the Debian package": ("lintian",),
    },
    "deb": {
        "building the Debian package": ("debhelper", "dh-python", "dpkg-dev"),
    },
    "rpm": {
        "building the RPM": ("rpm",),
    },
    "lab": {
        "virtual machines": ("qemu-system-x86", "qemu-utils"),
        "the guests' disks": (
            "busybox-static",
            "debian-archive-keyring",
            "e2fsprogs",
            "mmdebstrap",
            "zstd",
        ),
    },
}
"""Debian packages by stage and by what they are for; the same names in Debian 12 and 13."""

PROGRAMS = {
    "promtool": ("promtool", "prometheus"),  # in Debian 13 and in Debian 12
    "prometheus-node-exporter": ("prometheus-node-exporter",),
}
"""What the tests run of packages that are not installed, because that would start servers: each
program, and the packages that may have it in /usr/bin."""

OUTDATED = "run as root: apt-get update, then run make again"


class SetupError(Exception):
    """Says what could not be done, and what to do about it."""


def main(arguments: Sequence[str]) -> int:
    try:
        match arguments:
            case ["packages", stage] if stage in PACKAGES:
                install_packages(stage)
            case ["programs", directory]:
                fetch_programs(Path(directory))
            case ["venv", directory, requirements]:
                make_venv(Path(directory), Path(requirements))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


def install_packages(stage: str) -> None:
    wanted = {package: use for use, group in PACKAGES[stage].items() for package in group}
    missing = sorted(wanted.keys() - installed(list(wanted)))
    if not missing:
        return
    say(f"make {'test' if stage == 'lab' else stage} needs Debian packages that are missing:")
    for package in missing:
        say(f"  {package:24} for {wanted[package]}")
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
    apt += ["-o", "DPkg::Lock::Timeout=600"]
    by_hand = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if as_root and shutil.which("sudo") is None:
        raise SetupError(f"neither root nor sudo; run as root: {by_hand}")
    run([*apt, "update"], "check the network and /etc/apt/sources.list*, then run make again")
    run(
        [*apt, "install", "--yes", "--no-install-recommends", *missing],
        f"see why with: {by_hand}",
    )


def installed(packages: Sequence[str]) -> set[str]:
    """Those of `packages` that are installed."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages]
    try:
        # It exits with 1 when it knows nothing of one of them, and still tells of the others.
        done = subprocess.run(query, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SetupError(
            "there is no dpkg-query: the set-up knows Debian 12 and 13 only; "
            f"install by hand what provides {', '.join(packages)}"
        ) from None
    words = (line.split() for line in done.stdout.splitlines())
    return {package for package, status in words if status == "installed"}


def fetch_programs(directory: Path) -> None:
    """Put PROGRAMS into `directory`; no rights are needed, and nothing is installed."""
    packages = {program: available(names) for program, names in PROGRAMS.items()}
    say(f"fetching programs of Debian packages into {directory}, without installing those:")
    for program, package in packages.items():
        say(f"  {program:24} of {package}")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as name:
        scratch = Path(name)
        # The user that apt otherwise downloads as may not write here, which apt warns of.
        apt = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download"]
        run([*apt, *packages.values()], OUTDATED, scratch)
        for archive in scratch.glob("*.deb"):
            advice = f"see above; is there room in {directory}?"
            run(["dpkg-deb", "--extract", str(archive), str(scratch)], advice)
        for program in packages:
            os.replace(scratch / "usr/bin" / program, directory / program)


def available(packages: Sequence[str]) -> str:
    """The first of `packages` that the package lists of this machine have."""
    for package in packages:
        show = ["apt-cache", "show", "--no-all-versions", package]
        if subprocess.run(show, capture_output=True, check=False).returncode == 0:
            return package
    raise SetupError(f"apt knows no package {' or '.join(packages)}; {OUTDATED}")


def make_venv(directory: Path, requirements: Path) -> None:
    say(f"installing the Python packages of {requirements} into {directory}")
    if directory.exists():
        shutil.rmtree(directory)
    again = "see above; when the network was the cause, run make again"
    run([sys.executable, "-m", "venv", str(directory)], "remove build/ and run make again")
    pip = [str(directory / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # First what builds the others, so that its version is ours and not the day's.
    (builder,) = [line for line in pins(requirements) if line.startswith("setuptools==")]
    run([*pip, "install", builder], again)
    build = ["--use-pep517", "--no-build-isolation"]
    run([*pip, "install", *build, "--requirement", str(requirements)], again)


def pins(requirements: Path) -> list[str]:
    """The lines of a requirements file and of those that it includes."""
    lines: list[str] = []
    for line in requirements.read_text().splitlines():
        if line.startswith("-r "):
            lines += pins(requirements.parent / line.removeprefix("-r ").strip())
        elif line and not line.startswith("#"):
            lines.append(line.strip())
    return lines


def run(command: Sequence[str], advice: str, directory: Path | None = None) -> None:
    say("$ " + " ".join(command))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=directory, check=False)
    if (code := done.returncode) != 0:
        raise SetupError(f"{' '.join(command)}: exit code {code}; {advice}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
