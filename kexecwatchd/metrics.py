# SPDX-License-Identifier: GPL-2.0-or-later
"""The status as numbers, in a file for the textfile collector of Prometheus' node exporter.

The file is OpenMetrics; the collector reads Prometheus' older text format (seen of node exporter
1.5 and 1.9). What both take in the same sense: HELP, TYPE gauge, labels and values; UNIT and EOF
are comments to the collector. A type that it does not know (info, stateset, unknown) costs it the
whole file, so there is none. A counter's TYPE has the name without _total in the one format and
with it in the other: it has no such line, and both read its name, help and value.

Sizes and counts alone: everyone may read the file, and what collects it passes it on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# 13 of the daemon's 300 ms of start, most of them for the library's own HTTP server.
from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest

from kexecwatchd import decisions
from kexecwatchd.model import Mode, State
from kexecwatchd.report import ImageStatus, Status

Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: all that is told of it, and where it comes from.

    `samples` gives the values of the labels, in their order, with a number each.
    """

    name: str
    help: str
    samples: Callable[[Status], Samples]
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Counters only grow, and begin again at 0 with each boot."""
        return "counter" if self.name.endswith("_total") else "gauge"

    @property
    def unit(self) -> str:
        """That of the name, for OpenMetrics' UNIT line; "" where it has none at its end."""
        word = self.name.rpartition("_")[2]
        return word if word in ("bytes", "seconds") else ""


def _one(value: Callable[[Status], float]) -> Callable[[Status], Samples]:
    return lambda status: [((), value(status))]


def _image(name: str, text: str, value: Callable[[ImageStatus], float]) -> Family:
    def samples(status: Status) -> Samples:
        return [((image.image.value,), value(image)) for image in status.images]

    return Family(f"kexecwatch_image_{name}", text, samples, ("image",))


def _last_load(name: str, text: str, value: Callable[[ImageStatus], float]) -> Family:
    """Without a value before the first load."""

    def samples(status: Status) -> Samples:
        return [((i.image.value,), value(i)) for i in status.images if i.last_load.at]

    text = f"{text} (absent before the first one)"
    return Family(f"kexecwatch_image_last_load_{name}", text, samples, ("image",))


def _states(status: Status) -> Iterator[tuple[tuple[str, ...], float]]:
    for image in status.images:
        yield from (((image.image.value, s.value), s is image.state) for s in State)


def _modes(status: Status) -> Iterator[tuple[tuple[str, ...], float]]:
    for image in status.images:
        yield from (((image.image.value, m.value), m is image.mode) for m in Mode)


UP = Family(
    "kexecwatch_up",
    "Whether kexecwatchd runs; when it has ended this is 0, and nothing else is told",
    _one(lambda status: 1),
)

FAMILIES: tuple[Family, ...] = (
    UP,
    Family(
        "kexecwatch_info",
        "Always 1; the versions of kexecwatchd and of the kernel",
        lambda status: [((status.daemon_version, status.kernel_release), 1)],
        ("version", "kernel_release"),
    ),
    Family(
        "kexecwatch_last_look_timestamp_seconds",
        "When the machine was last looked at; at least once a minute",
        _one(lambda status: status.looked_at),
    ),
    Family(
        "kexecwatch_config_timestamp_seconds",
        "When the configuration in force was read",
        _one(lambda status: status.configured_at),
    ),
    Family(
        "kexecwatch_config_error",
        "Whether a changed configuration is wrong, and the old one stays in force",
        _one(lambda status: bool(status.config_error)),
    ),
    Family(
        "kexecwatch_problem",
        "Whether something keeps the daemon from looking properly",
        _one(lambda status: bool(status.problem)),
    ),
    Family(
        "kexecwatch_holds",
        "How many hold the daemon back from loading",
        _one(lambda status: len(status.holds)),
    ),
    Family(
        "kexecwatch_unarmed_seconds_total",
        "Since boot, how long a panic would have written no dump because an image was being loaded"
        " or unloaded",
        _one(lambda status: status.unarmed_seconds),
    ),
    Family(
        "kexecwatch_check",
        "Always 1; what a check of kexecwatchctl check answers now",
        lambda status: [((check.name, check.answer), 1) for check in status.checks],
        ("check", "answer"),
    ),
    _image(
        "covered",
        "Whether the image is what its mode asks for: nobody needs to worry",
        lambda image: image.covered,
    ),
    _image("loaded", "Whether the kernel holds one", lambda image: image.loaded),
    _image("foreign", "Whether it was loaded by someone else", lambda image: image.foreign),
    _image(
        "degraded",
        "Whether it was loaded, but not from the configured files",
        lambda image: bool(image.degraded),
    ),
    Family(
        "kexecwatch_image_state",
        "1 for the state that the image is in, 0 for the others",
        _states,
        ("image", "state"),
    ),
    _image(
        "state_timestamp_seconds", "When the state became what it is", lambda image: image.since
    ),
    Family(
        "kexecwatch_image_mode",
        "1 for what the daemon may do with the image, 0 for the others",
        _modes,
        ("image", "mode"),
    ),
    _image(
        "missing_bytes",
        "Memory that the image does not list: lost from a dump",
        lambda image: image.drift.missing_bytes,
    ),
    _image(
        "extra_bytes",
        "Memory that the image lists but that is gone: reading it can hang a dump",
        lambda image: image.drift.extra_bytes,
    ),
    _image(
        "missing_notes",
        "CPU notes (and vmcoreinfo) that the image lacks",
        lambda image: image.drift.missing_notes,
    ),
    _image(
        "in_progress",
        "Whether the image is being loaded or unloaded now",
        lambda image: bool(image.in_progress),
    ),
    _image("loads_total", "Successful loads since boot", lambda image: image.load_count),
    _last_load(
        "timestamp_seconds", "When the last load that was tried ended", lambda i: i.last_load.at
    ),
    _last_load(
        "duration_seconds",
        "How long the last load that was tried took",
        lambda i: i.last_load.seconds,
    ),
    _last_load(
        "success", "Whether the last load that was tried succeeded", lambda i: i.last_load.succeeded
    ),
)
"""All metrics, in the order in which they are written and described."""


def collected(status: Status) -> list[Metric]:
    """The metrics of a status, those without a value left out."""
    return [made for family in FAMILIES if (made := _collect(family, status)).samples]


def _collect(family: Family, status: Status) -> GaugeMetricFamily | UnknownMetricFamily:
    make = UnknownMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made = make(family.name, family.help, labels=family.labels, unit=family.unit)
    for labels, value in family.samples(status):
        made.add_metric(labels, float(value))
    return made


def ended() -> list[Metric]:
    """The metrics of a daemon that has ended: it no longer knows whether the machine is covered."""
    return [GaugeMetricFamily(UP.name, UP.help, value=0)]


def exposition(metrics: list[Metric]) -> bytes:
    """The text that OpenMetrics and the textfile collector read alike."""

    class Registry:
        def collect(self) -> list[Metric]:
            return metrics

    text: bytes = generate_latest(Registry())  # type: ignore[no-untyped-call]
    lines = text.splitlines(keepends=True)
    # No TYPE means unknown; spelled out it would be an error to the collector.
    return b"".join(
        x for x in lines if not (x.startswith(b"# TYPE ") and x.endswith(b" unknown\n"))
    )


class Textfile:
    """The file at `path`, replaced as a whole. What goes wrong is told once, and stops nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trouble = False
        self._ended = False

    def write(self, status: Status) -> None:
        """Put the status there, for everyone to read; nothing after `end`."""
        if not self._ended:
            self._replace(collected(status))

    def end(self) -> None:
        """Say that the daemon runs no longer, so that what it last said is not believed."""
        self._ended = True
        if not self._replace(ended()):
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _replace(self, metrics: list[Metric]) -> bool:
        # The collector reads names that end with .prom, and must not see half a file.
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(exposition(metrics))
                os.fchmod(file.fileno(), 0o644)  # whatever the umask
            os.replace(new, self._path)
        except OSError as error:
            if not self._trouble:
                decisions.trouble(
                    f"{self._path} cannot be written: {error.strerror}; Prometheus will find it old"
                )
            self._trouble = True
            return False
        self._trouble = False
        return True
