# SPDX-License-Identifier: GPL-2.0-or-later
"""`kexecwatchctl reload`: have images loaded again now."""

from __future__ import annotations

import argparse
import sys

from kexecwatchd.ctl import images, output
from kexecwatchd.ctl.client import AnswerError, connected
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.progress import waiting
from kexecwatchd.model import Mode
from kexecwatchd.report import ImageStatus

HELP = "load images again now, whatever their state"

_NOTHING = """\
there is nothing to reload: no image is loaded that kexecwatchd may touch, and none is to be
  what each image's mode is:  kexecwatchctl mode
  load one nevertheless:      kexecwatchctl reload crash"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image",
        nargs="*",
        type=images.named,
        metavar="IMAGE",
        help="crash or reboot; without one: each that is loaded, or is to be",
    )


async def run(args: argparse.Namespace) -> ExitCode:
    done = []
    code = ExitCode.CURRENT
    async with connected() as daemon:
        if args.image:
            wanted = list(dict.fromkeys(args.image))
        else:
            status = await daemon.status()
            wanted = [image.image for image in status.images if _is_ours(image)]
        if not wanted:
            raise AnswerError(_NOTHING)
        for image in wanted:
            try:
                async with waiting(f"the {image} image is being loaded:"):
                    await daemon.reload(image)
            except AnswerError as error:
                # The others are loaded nevertheless.
                print(f"kexecwatchctl: {error}", file=sys.stderr)
                code = ExitCode.ERROR
            else:
                done.append(image)
        status = await daemon.status()
    after = [images.image_of(status, image) for image in done]
    if after:
        output.write("\n".join(map(images.sentence, after)))
    if code is ExitCode.CURRENT and not all(image.covered for image in after):
        code = ExitCode.NOT_CURRENT
    return code


def _is_ours(image: ImageStatus) -> bool:
    return image.mode is Mode.ENSURE or (image.mode is Mode.FOLLOW and image.loaded)
