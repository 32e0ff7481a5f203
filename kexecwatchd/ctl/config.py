# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl config`: what the configuration says, and which file says it.

The files are read by whoever asks. A daemon that runs is asked in what it differs from them; it is
no error where there is none.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from kexecwatchd import config, configured
from kexecwatchd.config import Config, ConfigError, Sources
from kexecwatchd.ctl import output
from kexecwatchd.ctl.client import AnswerError, UnreachableError, connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.text import plain
from kexecwatchd.kernel.acpi_memory import NO_MEMORY_HOTPLUG
from kexecwatchd.report import ConfigReport, Profile, Setting, Status

HELP = "show the configuration, each value with the file it comes from (works without the daemon)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_json_option(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="only say whether it is good, the files that it names included",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="read this file alone, instead of the vendor's, /etc's and the drop-ins",
    )


async def run(args: argparse.Namespace) -> ExitCode:
    sources = Sources(explicit=args.config)
    # Another file than the daemon's says nothing about the daemon.
    daemon = None if args.check or args.config else await _status()
    report = look(sources, daemon, check=args.check)
    if args.json:
        output.write(report.model_dump_json(indent=2))
    else:
        _print(report, check=args.check)
    return ExitCode.ERROR if report.problems else ExitCode.CURRENT


def _print(report: ConfigReport, *, check: bool) -> None:
    if not report.problems:
        output.write("the configuration is good" if check else render(report))
        return
    for line in (*report.problems, *report.notes):
        print(f"kexecwatchctl: {plain(line)}", file=sys.stderr)


def look(sources: Sources, daemon: Status | None, *, check: bool) -> ConfigReport:
    """What the files of `sources` say. `check`: the files that they name must be good too.

    `daemon`: what the daemon that runs by these files says.
    """
    settings: list[Setting] = []
    profile = None
    try:
        loaded = configured.read(sources)
        profile = _profile(loaded)
        problems = config.check_files(loaded) if check else []
        if not problems:
            settings = list(_settings(loaded))
    except ConfigError as error:
        problems = list(error.problems)
    notes = list(_notes(sources, daemon)) if daemon else []
    return ConfigReport(
        profile=profile,
        settings=settings,
        problems=[_sendable(problem) for problem in problems],
        notes=[_sendable(note) for note in notes],
    )


def _sendable(text: str) -> str:
    """The same without what UTF-8 cannot say: file names may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def render(report: ConfigReport) -> str:
    """The settings as kexecwatchd.toml has them, all else in comments."""
    lines: list[str] = []
    table = ""
    written = [_written(setting) for setting in report.settings]
    longest = max(map(len, written))
    for setting, text in zip(report.settings, written, strict=True):
        if setting.table != table:
            table = setting.table
            lines += [""] * bool(lines) + [f"[{table}]"]
        lines.append(f"{text:<{longest}}  # {plain(setting.file) or 'default'}")
    notes = [*_told(report.profile), *report.notes]
    return "\n".join([*lines, *([""] * bool(notes)), *(f"# {note}" for note in notes)])


def _told(profile: Profile | None) -> Iterator[str]:
    if profile is None:
        return
    if profile.obstacle:
        yield f"no kernel is named for the crash image; {profile.tool}: {profile.obstacle}"
        return
    yield f"kernel, initrd and cmdline of [crash] are what {profile.tool} would load"
    if profile.added:
        yield (
            f"only {profile.added} is not its word but kexecwatchd's: without it the capture kernel"
            " cannot dump hot-added memory"
        )


def _written(setting: Setting) -> str:
    if setting.value is None:
        return f"# {setting.key} is not set"
    # A string of JSON is one of TOML.
    return f"{setting.key} = {plain(json.dumps(setting.value, ensure_ascii=False))}"


def _profile(loaded: Config) -> Profile | None:
    setup = loaded.setup
    if setup is None:
        return None
    differs = setup.files is not None and loaded.crash.cmdline != setup.files.cmdline
    return Profile(
        tool=setup.tool,
        obstacle=_sendable(setup.obstacle),
        added=NO_MEMORY_HOTPLUG if differs else "",
    )


def _settings(loaded: Config) -> Iterator[Setting]:
    for table, keys in loaded.model_dump(mode="json").items():
        for key, value in keys.items():
            file = _sendable(str(loaded.origin(table, key) or ""))
            yield Setting(table=table, key=key, value=value, file=file)


def _notes(sources: Sources, daemon: Status) -> Iterator[str]:
    """In what the running daemon differs from what the files say."""
    if daemon.config_error:
        error = plain(daemon.config_error)
        yield f"the daemon goes by what it had before, and did not take the last change: {error}"
    for path in _changed(sources, daemon.configured_at):
        yield f"{path} changed since the daemon read it: systemctl reload kexecwatchd"
    for image in daemon.images:
        if image.mode is not image.configured_mode:
            yield (
                f"the {image.image} image has mode {image.mode} until the next boot, as somebody"
                " asked for; the configured mode again:"
                f" kexecwatchctl mode {image.image} configured"
            )


def _changed(sources: Sources, since: float) -> list[Path]:
    """Our files that were written, or put in place, after `since` (Unix seconds); those of the
    distribution's tool are followed without a reload.

    The directory of the drop-ins stands for those that were taken out of it.
    """
    changed = []
    try:
        paths = [*config.files(sources), sources.drop_ins]
    except ConfigError:
        return []  # that is a problem, and is said as one
    for path in paths:
        try:
            # Not the time of modification: a file that was moved here may be of long ago.
            if path.stat().st_ctime > since:
                changed.append(path)
        except OSError:
            pass  # no drop-ins, or what reading the file has complained about
    return changed


async def _status() -> Status | None:
    """The daemon's, None where no daemon says anything."""
    try:
        async with connected() as daemon:
            return await daemon.status()
    except (UnreachableError, AnswerError):
        return None
