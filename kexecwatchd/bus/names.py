# SPDX-License-Identifier: GPL-2.0-or-later
"""The names that others depend on; the same stand in dbus/."""

from __future__ import annotations

from kexecwatchd.model import ImageName

BUS_NAME = "org.kexecwatch1"
MANAGER_PATH = "/org/kexecwatch1"
MANAGER_INTERFACE = "org.kexecwatch1.Manager"
IMAGE_INTERFACE = "org.kexecwatch1.Image"

ERROR_ACCESS_DENIED = "org.freedesktop.DBus.Error.AccessDenied"
ERROR_FAILED = "org.freedesktop.DBus.Error.Failed"
ERROR_INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"
ERROR_INTERACTIVE = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
ERROR_LIMITS_EXCEEDED = "org.freedesktop.DBus.Error.LimitsExceeded"
ERROR_REFUSED = "org.kexecwatch1.Error.Refused"
ERROR_HELD = "org.kexecwatch1.Error.Held"
ERROR_LOAD_FAILED = "org.kexecwatch1.Error.LoadFailed"
ERROR_NO_SUCH_HOLD = "org.kexecwatch1.Error.NoSuchHold"

# Characters. Who holds, and why, is shown on one line.
LONGEST_TEXT = 200


def image_path(image: ImageName) -> str:
    """The object of one image."""
    return f"{MANAGER_PATH}/image/{image.value}"
