# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl discard`: have an image unloaded, and none loaded in its place."""

from __future__ import annotations

import argparse

from kexecwatchd.ctl import images, output
from kexecwatchd.ctl.client import connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.progress import waiting
from kexecwatchd.model import ImageName
from kexecwatchd.report import ImageStatus

HELP = "unload an image, and load none in its place until reload says so"

_WITHOUT = {
    ImageName.CRASH: "a panic would write no dump",
    ImageName.REBOOT: "systemctl kexec has nothing to start",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", choices=images.NAMES, help="crash or reboot")


async def run(args: argparse.Namespace) -> ExitCode:
    name = ImageName(args.image)
    async with connected() as daemon:
        async with waiting(f"the {name} image is being unloaded:"):
            await daemon.discard(name)
        status = await daemon.status()
    image = images.image_of(status, name)
    output.write(_afterwards(image))
    # Somebody else can have loaded one meanwhile.
    return ExitCode.NOT_CURRENT if image.loaded else ExitCode.CURRENT


def _afterwards(image: ImageStatus) -> str:
    if image.loaded:
        return f"A {image.image} image is loaded again. {images.sentence(image)}"
    return (
        f"No {image.image} image is loaded: {_WITHOUT[image.image]}.\n"
        f"  load it again:  kexecwatchctl reload {image.image}"
    )
