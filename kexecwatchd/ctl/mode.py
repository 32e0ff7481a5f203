# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl mode`: what the daemon may do with each image, and another mode for one."""

from __future__ import annotations

import argparse

from kexecwatchd.ctl import images, output
from kexecwatchd.ctl.client import connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.screen import MODES
from kexecwatchd.model import ImageName, Mode
from kexecwatchd.report import ImageMode, ImageStatus, ModeReport

HELP = "show what kexecwatchd may do with each image, or change it until the next boot"

_CONFIGURED = "configured"
_DROP_IN = "/etc/kexecwatchd/kexecwatchd.toml.d/50-local.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_json_option(parser)
    parser.add_argument("image", nargs="?", choices=images.NAMES, help="crash or reboot")
    parser.add_argument(
        "mode",
        nargs="?",
        choices=(*(mode.value for mode in Mode), _CONFIGURED),
        help="the mode that it gets until the next boot; configured: the configuration's again",
    )


async def run(args: argparse.Namespace) -> ExitCode:
    async with connected() as daemon:
        if args.mode:
            mode = None if args.mode == _CONFIGURED else Mode(args.mode)
            await daemon.set_mode(ImageName(args.image), mode)
        status = await daemon.status()
    shown = [image for image in status.images if args.image in (None, image.image)]
    if args.json:
        output.write(_report(shown).model_dump_json(indent=2))
    elif args.mode:
        output.write("\n".join(map(_afterwards, shown)))
    else:
        output.write("\n".join(map(_line, shown)))
    return ExitCode.CURRENT


def _report(shown: list[ImageStatus]) -> ModeReport:
    return ModeReport(
        modes=[
            ImageMode(image=image.image, mode=image.mode, configured_mode=image.configured_mode)
            for image in shown
        ]
    )


def _line(image: ImageStatus) -> str:
    text = f"{image.image:<8}{MODES[image.mode]}"
    if image.mode is not image.configured_mode:
        text += f" (until the next boot; configured: {image.configured_mode})"
    return text


def _afterwards(image: ImageStatus) -> str:
    head = f"The {image.image} image has mode {MODES[image.mode]}"
    if image.mode is image.configured_mode:
        return f"{head} (as configured)."
    return (
        f"{head}.\nThis holds until the next boot; then it is {image.configured_mode} again, as"
        f" configured. To make it last:\n"
        f"  write into {_DROP_IN}:\n"
        f"    [{image.image}]\n"
        f'    mode = "{image.mode}"\n'
        "  and have it read:  systemctl reload kexecwatchd"
    )
