# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: kexecwatchd.toml's, completed by what the distribution's tool says."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from kexecwatchd import profiles
from kexecwatchd.config import Config, Sources, load


def read(sources: Sources) -> Config:
    """Read both. Raises ConfigError, of kexecwatchd.toml alone; the tool's files end nobody."""
    return complete(load(sources), sources)


def complete(config: Config, sources: Sources) -> Config:
    """The same for what was read of kexecwatchd.toml already, or stands in for it."""
    return config.completed(profiles.find(sources.root), platform.machine())


def sources_of(config: Config) -> Collection[Path]:
    """Files of others that can change what a complete configuration was completed with."""
    if config.toml.crash.kernel is not None:
        return ()
    return config.setup.reads if config.setup else profiles.PROGRAMS
