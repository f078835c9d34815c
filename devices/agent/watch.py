"""Readings beside a job: power, free memory, and the board's state, in a thread of the supervisor."""

import contextlib
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from . import clock, heat, jetson, power, processor
from .tree import match

CHUNK = 500  # readings that are sent at once: sending takes processor time
PAUSE_S = 0.05


class Watcher(object):
    """Watches the board while a job runs that asks for it."""

    def __init__(self, emit: Callable[..., None], root: str = "/") -> None:
        self.emit, self.root = emit, root
        self.sensor: Any = None

    @contextlib.contextmanager
    def during(self, request: Dict[str, Any]) -> Iterator[None]:
        """Watches until the block ends, if the request has a ``watch``; all readings are sent by then."""
        plan = request.get("watch")
        if not plan:
            yield
            return
        watch = Watch(plan, self.emit, self.root)
        self.sensor = watch.sensor
        watch.start()
        try:
            yield
        finally:
            watch.stop()
            self.sensor = None

    def kill(self) -> None:
        """Ends the tool that a sensor may have started."""
        sensor = self.sensor
        if sensor:
            sensor.stop()


class Watch(object):
    """One job's readings: what is due is read, and sent in chunks."""

    def __init__(self, plan: Dict[str, Any], emit: Callable[..., None], root: str) -> None:
        self.emit, self.root = emit, root
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.sensor: Any = None
        self.readings: List[power.Reading] = []
        self.free: List[List[int]] = []
        self.tasks = [[plan["state_s"], 0.0, self.state]]
        if plan.get("memory_s"):
            self.tasks.append([plan["memory_s"], 0.0, self.memory])
        if plan.get("power"):
            self.sensor, reason = power.find(plan["power"], root)
            emit("sensor", source=self.sensor.source if self.sensor else None, reason=reason)
        if self.sensor:
            self.tasks.append([max(plan["period_s"], self.sensor.period_s), 0.0, self.power])

    def start(self) -> None:
        """Begins, with the state of the board before the job."""
        if self.sensor:
            self.sensor.start()
        self.thread.start()

    def stop(self) -> None:
        """Ends with a last reading of everything."""
        self.over.set()
        self.thread.join()
        if self.sensor:
            self.sensor.stop()

    def run(self) -> None:
        """Reads what is due until the job is over; a failure is told, and harms no job."""
        try:
            while not self.over.wait(max(0.0, min(due for _, due, _ in self.tasks) - time.monotonic())):
                self.read_due()
            if self.sensor:
                self.sensor.settle()
            for _, _, read in self.tasks:
                read()
            self.send(1)
        except Exception as error:  # the job matters more than what is read beside it
            self.emit("unwatched", message="%s: %s" % (type(error).__name__, str(error)[:500]))

    def read_due(self) -> None:
        """Reads everything whose time has come; what is late is not made up for."""
        for task in self.tasks:
            period, due, read = task
            if due <= time.monotonic():
                read()
                task[1] = max(due + period, time.monotonic())
        self.send(CHUNK)

    def state(self) -> None:
        """Sends temperatures, clocks, throttling and free memory."""
        clocks = processor.frequencies(self.root)["now"]
        throttled = heat.throttled(self.root)
        self.emit(
            "state",
            at_ns=clock.now(),
            temperatures=heat.temperatures(self.root),
            cpu_khz=max(clocks) if clocks else None,
            gpu_hz=jetson.gpu_now(self.root),
            over_current=heat.over_current(self.root),
            throttle_count=throttled["count"],
            throttle_flags=throttled["flags"] if throttled["flags"] is not None else heat.told_flags(),
            available_kb=available_kb(self.root),
        )

    def memory(self) -> None:
        """Keeps the free memory."""
        free = available_kb(self.root)
        if free is not None:
            self.free.append([clock.now(), free])

    def power(self) -> None:
        """Keeps the power of all rails."""
        self.readings.extend(self.sensor.take())

    def send(self, least: int) -> None:
        """Sends the readings once there are so many."""
        if len(self.readings) >= least:
            taken, self.readings = self.readings, []
            names = sorted({name for _, found in taken for name in found})
            rails = {name: [found.get(name) for _, found in taken] for name in names}
            self.emit("power", unit=self.sensor.unit, at_ns=[at for at, _ in taken], rails=rails)
        if len(self.free) >= least:
            taken_free, self.free = self.free, []
            self.emit("free", at_ns=[at for at, _ in taken_free], kb=[kb for _, kb in taken_free])


def available_kb(root: str) -> Optional[int]:
    """Kilobytes that programs could still have."""
    found = match(root.rstrip("/") + "/proc/meminfo", r"(?m)^MemAvailable:\s+(\d+)")
    return int(found) if found else None


def rest(seconds: float, stopped: Callable[[], bool]) -> Dict[str, Any]:
    """Does nothing for so long, so that the board is watched while it is idle."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopped():
        time.sleep(PAUSE_S)
    return {}
