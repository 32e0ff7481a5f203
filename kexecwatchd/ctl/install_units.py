# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl install-units`: units and the like, for a kexecwatchd that pip installed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path, PurePosixPath

import kexecwatchd
from kexecwatchd import takeover
from kexecwatchd.ctl import output
from kexecwatchd.ctl.client import AnswerError
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.text import counted
from kexecwatchd.install import changes, commands, environment, layout, record
from kexecwatchd.install.changes import Changes, InstallError
from kexecwatchd.install.layout import Item, LayoutError
from kexecwatchd.install.record import Record, RecordError
from kexecwatchd.takeover import TakeoverError

HELP = "install units, udev rule, D-Bus policy and the like, for a kexecwatchd from pip (root)"

_HERE = Path("/")
# Of a package, or of make install; a unit in /etc would hide it.
_PACKAGED = ("usr/lib/systemd/system/kexecwatchd.service", "lib/systemd/system/kexecwatchd.service")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remove",
        action="store_true",
        help="stop kexecwatchd, and take back what was installed, and takeover; loaded images stay",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what would be done")
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        default=_HERE,
        help="install below DIR, an image with this environment at the same path, and run nothing",
    )


async def run(args: argparse.Namespace) -> ExitCode:
    """Raises AnswerError where it is refused, or could not be done."""
    return run_below(args.root.resolve(), remove=args.remove, dry_run=args.dry_run)


def run_below(root: Path, *, remove: bool, dry_run: bool) -> ExitCode:
    """Raises AnswerError."""
    if root == _HERE and os.geteuid() != 0:
        raise AnswerError("units are root's to install: run it as root")
    try:
        known = record.read(root)
        if remove:
            return _remove(root, known, dry_run=dry_run)
        here = Path(sys.prefix).resolve()
        wanted = layout.items(_data(), PurePosixPath(here))
        _refuse(root, here)
        return _install(root, wanted, known, dry_run=dry_run)
    except (InstallError, LayoutError, RecordError, TakeoverError) as error:
        raise AnswerError(str(error)) from error
    except OSError as error:
        raise AnswerError(f"{error.filename}: {error.strerror}; nothing was changed") from error


def _data() -> dict[str, bytes]:
    """What the wheel carries, by paths below /."""
    top = Path(kexecwatchd.__file__).parent / "data"
    if not top.is_dir():
        raise InstallError(
            "this kexecwatchd was not installed from a wheel: a package, or make install, has"
            " brought its units along"
        )
    files = [path for path in top.rglob("*") if path.is_file()]
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


def _refuse(root: Path, here: Path) -> None:
    for name in _PACKAGED:
        if (root / name).exists():
            raise InstallError(
                f"{root / name} is there: kexecwatchd is installed already, by a package or by"
                " make install; remove that first"
            )
    if problems := environment.problems(here, root):
        raise InstallError(
            "root would run what others can change, or what is not there when it is needed:\n  "
            + "\n  ".join(problems)
        )
    # As the units start it: pip may have counted on what root has in ~/.local.
    if failed := commands.run([(f"{here}/bin/python3", "-I", "-m", "kexecwatchd", "--version")]):
        raise InstallError(f"kexecwatchd cannot be started:\n  {failed[0]}")


def _install(root: Path, wanted: list[Item], known: Record | None, *, dry_run: bool) -> ExitCode:
    found = changes.look(root, wanted, known or Record())
    if found.foreign:
        names = "\n  ".join(map(str, found.foreign))
        raise InstallError(f"nothing is installed: in the way, and not ours:\n  {names}")
    if dry_run:
        return _list(found)
    changes.apply(root, found, wanted, known or Record())
    _tell_left(found)
    output.write(_summary(found))
    if root != _HERE:
        return ExitCode.CURRENT
    _tell_all()
    if known is None:
        output.write("Next: systemctl enable --now kexecwatchd")
    else:
        output.write("Next: systemctl try-restart kexecwatchd   (loaded images stay)")
    return ExitCode.CURRENT


def _remove(root: Path, known: Record | None, *, dry_run: bool) -> ExitCode:
    if known is None:
        output.write("Nothing of install-units is installed here.")
        return ExitCode.CURRENT
    found = changes.look(root, (), known)
    if dry_run:
        for name in takeover.switched_off(root):
            output.write(f"remove  /{takeover.OVERRIDES}/{name}")
        return _list(found)
    if root == _HERE and (failed := commands.run(commands.stop(root))):
        raise InstallError("nothing is removed:\n  " + "\n  ".join(failed))
    # Nobody would keep the image right.
    back, others = takeover.revert(root)
    for name in back:
        output.write(f"Switched on again: {name}")
    for name in others:
        _say_left(f"/{takeover.OVERRIDES}/{name}")
    changes.apply(root, found, (), known)
    _tell_left(found)
    output.write(_summary(found))
    if root == _HERE:
        _tell_all()
    return ExitCode.CURRENT


def _tell_all() -> None:
    if failed := commands.run(commands.READ_AGAIN):
        raise InstallError(
            "all files are in order, but not everyone was told; say it yourself:\n  "
            + "\n  ".join(failed)
        )


def _list(found: Changes) -> ExitCode:
    lines = [f"write   {item.path}" for item in found.write]
    lines += [f"remove  {path}" for path in found.remove]
    lines += [f"leave   {path}" for path in found.leave]
    output.write("\n".join(lines or ["Nothing is to be done."]))
    return ExitCode.CURRENT


def _tell_left(found: Changes) -> None:
    for path in found.leave:
        _say_left(str(path))


def _say_left(path: str) -> None:
    print(f"kexecwatchctl: left as you made it: {path}", file=sys.stderr)


def _summary(found: Changes) -> str:
    written, removed = (counted(len(paths), "file") for paths in (found.write, found.remove))
    return f"Wrote {written}, removed {removed}."
