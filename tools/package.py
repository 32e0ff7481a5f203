# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the packages into dist/; run by make, needs Python's own library only.

    package.py deb    kexecwatchd_VERSION_all.deb, with dpkg-buildpackage
    package.py rpm    kexecwatchd-VERSION-RELEASE.noarch.rpm, with rpmbuild

A package is built from a copy of the sources, with packaging/debian where Debian looks for it, and
only when these have changed since the last time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
NOT_SOURCES = {".git", "build", "dist"}
"""What a tree that git knows nothing of may have beside the sources: directories at its top. Caches
have names that begin with a dot, or are __pycache__."""


class PackageError(Exception):
    """Says what could not be done, and what to do about it."""


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in BUILDERS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(build(arguments[0], SOURCE, SOURCE / "build" / arguments[0], SOURCE / "dist"))
    except PackageError as error:
        print(f"no package was built: {error}", file=sys.stderr)
        return 1
    return 0


def build(kind: str, source: Path, scratch: Path, results: Path) -> Path:
    """Build a package of `source` in `scratch`, and return its path in `results`.

    The one that is there is kept where it was built from these very sources. Whoever else builds in
    `scratch` is waited for.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with locked(scratch / "lock"):
        files = sources(source)
        built_from = scratch / "built-from"
        print_of_now = fingerprint(source, files)
        # Whoever was killed while writing this has left less than two words.
        told = built_from.read_text().split() if built_from.exists() else []
        if len(told) == 2 and told[1] == print_of_now and (results / told[0]).exists():
            return results / told[0]
        tree = scratch / f"kexecwatchd-{version(source)}"
        export(source, files, tree)
        package = BUILDERS[kind](tree)
        if not package.exists():
            raise PackageError(f"{package.name} did not come of it: who tells another version?")
        results.mkdir(exist_ok=True)
        shutil.copy(package, results / f".{package.name}.new")
        os.replace(results / f".{package.name}.new", results / package.name)
        built_from.write_text(f"{package.name} {print_of_now}\n")
        return results / package.name


def build_deb(tree: Path) -> Path:
    """Build tree/../kexecwatchd_VERSION_all.deb."""
    shutil.copytree(tree / "packaging/debian", tree / "debian")
    # Without -d it asks for a compiler, which is implied in every list of Build-Depends.
    run(["dpkg-buildpackage", "--build=binary", "--no-sign", "-d"], tree)
    return tree.parent / f"kexecwatchd_{version(tree)}_all.deb"


def build_rpm(tree: Path) -> Path:
    """Build tree/../RPMS/noarch/kexecwatchd-VERSION-RELEASE.noarch.rpm."""
    top = tree.parent
    done = top / "RPMS/noarch"
    shutil.rmtree(done, ignore_errors=True)
    archive = shutil.make_archive(str(tree), "gztar", root_dir=top, base_dir=tree.name)
    defined = {
        "_topdir": top,
        "_sourcedir": Path(archive).parent,
        # The same bytes at any time and on any machine.
        "_buildhost": "localhost",
        "source_date_epoch_from_changelog": 1,
        "use_source_date_epoch_as_buildtime": 1,
        "clamp_mtime_to_source_date_epoch": 1,
    }
    options = [word for name, value in defined.items() for word in ("--define", f"{name} {value}")]
    # On Debian, rpm knows of no installed package that would be what BuildRequires asks for.
    run(["rpmbuild", "-bb", "--nodeps", *options, "packaging/rpm/kexecwatchd.spec"], tree)
    return next(done.glob("*.rpm"))


BUILDERS: dict[str, Callable[[Path], Path]] = {"deb": build_deb, "rpm": build_rpm}


def version(source: Path) -> str:
    """The version of the program."""
    (found,) = re.findall(
        '^__version__ = "(.*)"$', (source / "kexecwatchd/__init__.py").read_text(), re.MULTILINE
    )
    return str(found)


def sources(source: Path) -> list[Path]:
    """The files of a source tree, relative to it: what git tracks, or else all but what we make."""
    if (source / ".git").exists():
        command = ["git", "-C", str(source), "ls-files", "-z"]
        try:
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            pass  # no git here, or a tree of another user, whom it does not trust
        else:
            names = [Path(name) for name in listed.split("\0") if name]
            return sorted(name for name in names if (source / name).exists())
    return sorted(_all_but_made(source))


def _all_but_made(source: Path) -> Iterator[Path]:
    for path in source.rglob("*"):
        name = path.relative_to(source)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        if path.is_file() and not hidden and name.parts[0] not in NOT_SOURCES:
            yield name


def fingerprint(source: Path, files: Sequence[Path]) -> str:
    """A hash of names, rights and contents."""
    digest = hashlib.sha256()
    for file in files:
        content = (source / file).read_bytes()
        digest.update(f"{file}\0{rights(source / file):o}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def export(source: Path, files: Sequence[Path], tree: Path) -> None:
    """Make `tree` a copy of these files, whatever is there and whatever the umask is."""
    if tree.exists():
        shutil.rmtree(tree)
    for file in files:
        copy = tree / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, copy)
        copy.chmod(rights(source / file))


def rights(path: Path) -> int:
    """The permissions that git would give a file."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str], directory: Path) -> None:
    """Run a program that builds; what it says is told only when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
            umask=0o022,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise PackageError(f"there is no {command[0]}; tools/setup.py says which package") from None
    if done.returncode != 0:
        raise PackageError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
