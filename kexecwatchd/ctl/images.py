# SPDX-License-Identifier: GPL-2.0-or-later
"""The images as the verbs that change something name them, and speak of them."""

from __future__ import annotations

import argparse

from kexecwatchd.ctl.screen import VERDICTS
from kexecwatchd.ctl.text import plain
from kexecwatchd.model import ImageName
from kexecwatchd.report import ImageStatus, Status

NAMES = tuple(name.value for name in ImageName)


def named(text: str) -> ImageName:
    """For argparse, whose choices do not go with `nargs="*"` before Python 3.12."""
    try:
        return ImageName(text)
    except ValueError:
        known = " or ".join(NAMES)
        raise argparse.ArgumentTypeError(f"there is no image {text!r}: name {known}") from None


def image_of(status: Status, name: str) -> ImageStatus:
    return next(image for image in status.images if image.image == name)


def sentence(image: ImageStatus) -> str:
    """What its state is, why, and what comes next, on one line."""
    text = f"The {image.image} image {VERDICTS[image.state]}: {plain(image.reason)}."
    if image.next_step and not image.covered:
        text += f" Next: {plain(image.next_step)}."
    return text
