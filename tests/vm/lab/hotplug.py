# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory and CPU hotplug through QMP, each waiting for what the guest's ACPI code answers."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .qmp import Event, Qmp
from .report import LabError, limit

# ACPI _OST, "source events": what the guest answers to.
_OST_DEVICE_CHECK = 1
_OST_EJECT = 3
_OST_SUCCESS = 0
# Status of an eject that goes on: the guest says so before the real answer.
_OST_EJECT_IN_PROGRESS = 0x84

_SUFFIXES = {"K": 10, "M": 20, "G": 30, "T": 40}


class HotplugRefused(LabError):
    """The guest did not take the device, or did not give it back."""


@dataclass(frozen=True)
class Dimm:
    """A plugged DIMM: physical address and size in bytes."""

    id: str
    start: int
    size: int

    @property
    def end(self) -> int:
        """The first physical address behind it."""
        return self.start + self.size


@dataclass(frozen=True)
class VirtioMem:
    """A plugged virtio-mem device: where its memory can be, and how much that is at most."""

    id: str
    start: int
    maximum: int

    @property
    def end(self) -> int:
        """The first physical address behind all that it can grow to."""
        return self.start + self.maximum


def size_in_bytes(size: int | str) -> int:
    """512 * 2**20 for "512M"; integers are bytes already."""
    if isinstance(size, int):
        return size
    shift = _SUFFIXES.get(size[-1:].upper(), 0)
    return int(size[:-1] if shift else size) << shift


def plug_dimm(
    qmp: Qmp, name: str, size: int | str, wait: bool, timeout: float, **options: object
) -> Dimm:
    """Add a DIMM; see Machine.plug_dimm."""
    since = len(qmp.events)
    _add_backed(qmp, "pc-dimm", name, size, **options)
    if wait:
        answer = qmp.wait_event(lambda e: _is_ost(e, name, _OST_DEVICE_CHECK), since, timeout)
        _require_success(answer, f"the guest did not take DIMM {name}")
    return next(d for d in dimms(qmp) if d.id == name)


def unplug_dimm(qmp: Qmp, name: str, timeout: float) -> None:
    """Remove a DIMM and what backs it."""
    finish_unplug(qmp, name, request_unplug(qmp, name), timeout)
    qmp.command("object-del", id=f"memory-{name}")


def unplug_cpu(qmp: Qmp, name: str, timeout: float) -> None:
    """Remove a CPU that plug_cpu() added."""
    finish_unplug(qmp, name, request_unplug(qmp, name), timeout)


def request_unplug(qmp: Qmp, name: str) -> int:
    """Ask the guest to give a device back; return the event index to wait from."""
    since = len(qmp.events)
    qmp.command("device_del", id=name)
    return since


def finish_unplug(qmp: Qmp, name: str, since: int, timeout: float) -> None:
    """Wait until a requested removal is over; raise HotplugRefused when the guest declines."""

    def deleted(event: Event) -> bool:
        # QEMU announces a CPU only by its local APIC, as "/machine/peripheral/NAME/lapic".
        path = str(event.data.get("path", "")).split("/")
        return event.name == "DEVICE_DELETED" and (name in path or name == event.data.get("device"))

    def refused(event: Event) -> bool:
        if event.name in ("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR"):
            return event.data.get("device") == name
        return _is_ost(event, name, _OST_EJECT) and event.data["info"]["status"] not in (
            _OST_SUCCESS,
            _OST_EJECT_IN_PROGRESS,
        )

    event = qmp.wait_event(lambda e: deleted(e) or refused(e), since, timeout)
    if refused(event):
        raise HotplugRefused(f"the guest did not give back {name}: {dict(event.data)}")


def dimms(qmp: Qmp) -> list[Dimm]:
    """The DIMMs that are plugged now (boot memory is none)."""
    devices = [d["data"] for d in qmp.command("query-memory-devices") if d["type"] == "dimm"]
    return [Dimm(d["id"], d["addr"], d["size"]) for d in devices]


def plug_virtio_mem(qmp: Qmp, name: str, maximum: int | str) -> VirtioMem:
    """Add a virtio-mem device that gives nothing yet; see Machine.plug_virtio_mem."""
    _add_backed(qmp, "virtio-mem-pci", name, maximum, requested_size=0)
    devices = qmp.command("query-memory-devices")
    found = next(d["data"] for d in devices if d["data"]["id"] == name)
    return VirtioMem(name, found["memaddr"], found["max-size"])


def resize_virtio_mem(qmp: Qmp, name: str, size: int | str, timeout: float) -> None:
    """Have the guest take or give back memory; see Machine.resize_virtio_mem."""
    path, wanted = f"/machine/peripheral/{name}", size_in_bytes(size)
    qmp.command("qom-set", path=path, property="requested-size", value=wanted)
    deadline = time.monotonic() + limit(timeout)
    # Asked for, because QEMU holds back all but one MEMORY_DEVICE_SIZE_CHANGE a second.
    while (now := qmp.command("qom-get", path=path, property="size")) != wanted:
        if time.monotonic() > deadline:
            raise HotplugRefused(
                f"the guest left {name} at {now} bytes, of {wanted} requested, for {timeout:g} s"
            )
        time.sleep(0.1)


def plug_cpu(qmp: Qmp, timeout: float) -> str:
    """Add the next CPU of the machine's possible ones; return its device id."""
    since = len(qmp.events)
    free = [c for c in qmp.command("query-hotpluggable-cpus") if "qom-path" not in c]
    if not free:
        raise LabError("all CPUs of the machine are plugged")
    slot = min(free, key=lambda c: int(c["props"]["socket-id"]))
    name = f"cpu{slot['props']['socket-id']}"
    qmp.command("device_add", driver=slot["type"], id=name, **slot["props"])
    answer = qmp.wait_event(
        lambda e: (
            e.name == "ACPI_DEVICE_OST"
            and e.data["info"].get("slot-type") == "CPU"
            and e.data["info"]["source"] == _OST_DEVICE_CHECK
        ),
        since,
        timeout,
    )
    _require_success(answer, f"the guest did not take CPU {name}")
    return name


def count_list(text: str) -> int:
    """How many numbers a kernel list such as "0-2,5" names."""
    pairs = (part.partition("-") for part in text.split(",") if part)
    return sum(int(last or first) - int(first) + 1 for first, _, last in pairs)


def _add_backed(qmp: Qmp, driver: str, name: str, size: int | str, **options: object) -> None:
    """Add a device and the memory behind it, or neither."""
    memdev = f"memory-{name}"
    # reserve=off: a storm of hundreds of GiB must not need as much host memory.
    qmp.command(
        "object-add",
        qom_type="memory-backend-ram",
        id=memdev,
        size=size_in_bytes(size),
        reserve=False,
    )
    try:
        qmp.command("device_add", driver=driver, id=name, memdev=memdev, **options)
    except LabError:
        qmp.command("object-del", id=memdev)
        raise


def _is_ost(event: Event, name: str, source: int) -> bool:
    if event.name != "ACPI_DEVICE_OST":
        return False
    info = event.data["info"]
    return bool(info.get("device") == name and info["source"] == source)


def _require_success(event: Event, text: str) -> None:
    if event.data["info"]["status"] != _OST_SUCCESS:
        raise HotplugRefused(f"{text}: {dict(event.data)}")
