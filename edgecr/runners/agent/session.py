"""One measuring session with the agent, over whatever connects to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from edgecr.core.errors import DeviceFailed
from edgecr.core.progress import Bar, Monitor
from edgecr.runners import fitness
from edgecr.runners.agent.events import Event, cleaned, read_as, unreadable
from edgecr.runners.agent.memory import Need
from edgecr.runners.agent.payload import Payload, payload_of
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.agent.watching import idle, idle_seconds, of_alone, of_launch
from edgecr.runners.base import Arm, MeasurePlan
from edgecr.runners.cooling import cooled
from edgecr.runners.device import Device
from edgecr.runners.expected_length import expected_s, in_words
from edgecr.runners.measurement.readings import Watched
from edgecr.runners.measurement.record import (
    Alone,
    Ended,
    Launch,
    MeasuredArm,
    Measurement,
    NodeTime,
    Rate,
    Round,
    Start,
    Warmth,
)
from edgecr.runners.runtimes import runtimes
from edgecr.runners.tensorrt.engine import Engine

PROFILED_CALLS = 25


class MeasuringSession:
    """Sends the requests of a plan and keeps whatever comes back."""

    def __init__(self, device: Device, plan: MeasurePlan, monitor: Monitor) -> None:
        self.device, self.plan, self.monitor = device, plan, monitor
        self.protocol = plan.protocol(device)
        self.payloads = payloads_of(plan)
        self.arms = tuple(measured(arm, payload) for arm, payload in zip(plan.arms, self.payloads))
        self.facts: dict[str, Any] = {}
        self.facts_after: dict[str, Any] = {}
        self.launches: list[Launch] = []
        self.alone: list[Alone] = []
        self.idle: Watched | None = None
        self.nodes: list[NodeTime] = []
        self.engines: list[Engine] = []
        self.warnings: list[str] = []
        self.error: str | None = None

    def run(self, agent: Connection) -> None:
        """Probe, send the files, launches, each arm alone, probe again."""
        self.warn(cooled(self.protocol.cool_down, self.device.name, lambda: fitness.ask(agent), self.monitor))
        self.facts = fitness.ask(agent)
        self.warn(fitness.accept_unexpected(self.device, self.facts, self.plan.manner.force))
        self.warn(fitness.before(self.device, self.facts))
        self.warn(fitness.unused_gpu(self.device, self.plan.runtimes))
        self.warn(fitness.no_energy(self.device, self.facts))
        least = expected_s(self.protocol, len(self.arms), idle_seconds(self.device, self.facts))
        self.monitor.say(f"Measuring on {self.device.name} takes at least {in_words(least)}")
        self.idle = idle(agent, self.device, self.facts, self.monitor)
        self.send_files(agent)
        total = self.protocol.launches * self.protocol.rounds * len(self.arms)
        with self.monitor.bar(f"measuring on {self.device.name}", total) as bar:
            for number in range(self.protocol.launches):
                self.launch(agent, number, bar)
        for number in range(len(self.arms)):
            self.measure_alone(agent, number)
        if self.plan.manner.layers and not self.plan.by_tool(self.device):  # such a program tells them anyway
            for number in range(len(self.arms)):
                self.profile_layers(agent, number)
        self.warn(changed_runtimes(self.arms, self.launches, self.alone))
        self.facts_after = fitness.ask(agent)
        self.warn(fitness.after(self.facts, self.facts_after))

    def warn(self, texts: list[str]) -> None:
        """Tells and keeps warnings."""
        for text in texts:
            self.monitor.warn(text)
        self.warnings.extend(texts)

    def send_files(self, agent: Connection) -> None:
        """Sends every file once, under a name that its content gives."""
        for payload in {payload.name: payload for payload in self.payloads}.values():
            payload.send(agent.put)

    def arm_request(self, number: int) -> dict[str, Any]:
        """One arm as the agent wants it."""
        arm, payload = self.plan.arms[number], self.payloads[number]
        return asked_arm(self.device, arm.label, arm.runtime, arm.batch, payload, payload.needs[arm.batch])

    def launch(self, agent: Connection, number: int, bar: Bar) -> None:
        """One fresh process with all arms, interleaved; a broken launch is kept as far as it went."""
        protocol, events = self.protocol, list[Event]()
        request = agent.request(
            "bench",
            arms=[self.arm_request(arm) for arm in range(len(self.arms))],
            seed=self.plan.seed + number,
            rounds=protocol.rounds,
            round_s=protocol.round_s,
            least_rounds=protocol.least_rounds,
            max_s=protocol.max_s,
            warmup=protocol.warmup.model_dump(mode="json"),
            watch=of_launch(self.device),
        )
        try:
            for event in request:
                events.append(event)
                if event["event"] == "round":
                    bar.advance(1, launch=f"{number + 1}/{protocol.launches}")
        except DeviceFailed as error:
            raise self.broken(error, number, self.keep(events)) from error
        self.keep(events)

    def broken(self, error: DeviceFailed, number: int, rounds: int) -> DeviceFailed:
        """The failure of a launch, with how far it got."""
        place = f"in launch {number + 1} of {self.protocol.launches}, after {rounds} of {self.protocol.rounds} rounds"
        return DeviceFailed(f"{_sentence(error)} That was {place}." if rounds else str(error))

    def break_off(self, error: DeviceFailed) -> None:
        """Notes the failure that ended the session; the launches before it are part of the result."""
        partial = " What was measured until then is kept as partial." if self.launches else ""
        self.error = f"{_sentence(error) if partial else error}{partial}"

    def keep(self, events: list[Event]) -> int:
        """Adds what one process sent to the result; returns how many rounds that were."""
        launch = launch_of(events, self.arms)
        if launch.rounds:
            self.launches.append(launch)
        return len({one.number for one in launch.rounds})

    def measure_alone(self, agent: Connection, number: int) -> None:
        """One arm with a process to itself."""
        asked = self.protocol.throughput
        streams, seconds = (asked.streams, asked.seconds) if asked else ((), 0.0)
        asked_of = {"streams": streams, "seconds": seconds, "watch": of_alone(self.device), **self.arm_request(number)}
        events = list(agent.request("alone", arm=number, **asked_of))
        count = len(self.arms)
        starts, rates = picked(Start, events, "arm", count), picked(Rate, events, "throughput", count)
        check_starts(starts, {number}, self.arms, "done")
        self.alone.append(Alone(start=starts[0], rates=rates, watched=Watched.of(events)))

    def profile_layers(self, agent: Connection, number: int) -> None:
        """The layers of one arm, in a process that measures nothing else; without them the measurement is whole."""
        try:
            events = list(agent.request("layers", arm=number, calls=PROFILED_CALLS, **self.arm_request(number)))
        except DeviceFailed as error:
            self.warn([f"The layers of {self.arms[number].label} were not told: {error}"])
            return
        self.nodes += picked(NodeTime, events, "layer", len(self.arms))

    def result(self) -> Measurement:
        """Everything that came back so far."""
        return Measurement(
            device=self.device.model_copy(update={"protocol": self.protocol}),
            seed=self.plan.seed,
            arms=self.arms,
            facts=self.facts,
            facts_after=self.facts_after,
            idle=self.idle,
            layers=tuple(self.nodes),
            launches=tuple(self.launches),
            alone=tuple(self.alone),
            engines=tuple(self.engines),
            warnings=tuple(self.warnings),
            error=self.error,
        )


def _sentence(error: DeviceFailed) -> str:
    return f"{str(error).rstrip('.')}."


def asked_arm(device: Device, label: str, runtime: str, batch: int, payload: Payload, need: Need) -> dict[str, Any]:
    """A model in a runtime, with all that the agent has to know to load it."""
    config = device.runtime_options(runtime) | ({"entries": dict(payload.entries)} if payload.entries else {})
    return {
        "label": label,
        "model": payload.name,
        "runtime": runtime,
        "batch": batch,
        "config": config,
        "memory": need.plain(),
    }


def measured(arm: Arm, payload: Payload) -> MeasuredArm:
    """The description of an arm and its files in the result."""
    return MeasuredArm(
        label=arm.label,
        file=arm.path.name,
        sha256=payload.sha256,
        batch=arm.batch,
        size_bytes=payload.size_bytes,
        runtime=arm.runtime,
    )


def payloads_of(plan: MeasurePlan) -> tuple[Payload, ...]:
    """The payload of each arm; arms of the same file share one."""
    batches: dict[tuple[Path, tuple[str, ...]], set[int]] = {}
    for arm in plan.arms:
        batches.setdefault((arm.path, arm.beside), set()).add(arm.batch)
    found = {key: payload_of(key[0], sizes, key[1]) for key, sizes in batches.items()}
    return tuple(found[arm.path, arm.beside] for arm in plan.arms)


def launch_of(events: list[Event], arms: Sequence[MeasuredArm]) -> Launch:
    """The events of one process as data; read only now, because reading costs time that the rounds need."""
    ended = [read_as(Ended, cleaned(event)).reason for event in events if event["event"] == "ended"]
    launch = Launch(
        starts=picked(Start, events, "arm", len(arms)),
        warmups=picked(Warmth, events, "warm", len(arms)),
        rounds=picked(Round, events, "round", len(arms)),
        ended=ended[-1] if ended else None,
        watched=Watched.of(events),
    )
    if launch.rounds:  # a launch that broke off before them is not kept
        check_starts(launch.starts, set(range(len(arms))), arms, "round")
    turns = Counter((one.arm, one.number) for one in launch.rounds)
    if repeated := [turn for turn, times in turns.items() if times > 1]:
        raise unreadable("round", "arm {} had its turn of round {} before".format(*repeated[0]))
    return launch


def check_starts(starts: Sequence[Start], wanted: Set[int], arms: Sequence[MeasuredArm], name: str) -> None:
    """Raises unless each arm that a process was to load was told once before ``name``, in the runtime asked for."""
    told = Counter(one.arm for one in starts)
    if lacking := wanted - told.keys():
        raise unreadable(name, f"no 'arm' event came before it for arm {min(lacking)}")
    if others := [arm for arm, times in told.items() if times > 1 or arm not in wanted]:
        raise unreadable("arm", f"arm {others[0]} was not to be loaded, or was before")
    for one in starts:
        asked, answered = runtimes.get(arms[one.arm].runtime).told_as(), one.info.get("runtime")
        if asked not in (None, answered):
            raise unreadable("arm", f"{asked} was asked for, {answered!r} is told for arm {one.arm}")


def changed_runtimes(arms: Sequence[MeasuredArm], launches: Sequence[Launch], alone: Sequence[Alone]) -> list[str]:
    """Warnings of arms whose runtime was not the same in each process."""
    starts = [one for launch in launches for one in launch.starts] + [one.start for one in alone]
    texts = []
    for number, arm in enumerate(arms):
        told = {f"{one.info.get('runtime')} {one.info.get('version')}" for one in starts if one.arm == number}
        if len(told) > 1:
            texts.append(
                f"{arm.label} was measured in {' and in '.join(sorted(told))}: let nothing be installed on the board "
                "meanwhile, and measure again."
            )
    return texts


def picked(kind: Any, events: list[Event], name: str, arms: int) -> Any:
    """The events of one name, checked; their texts may be shown."""
    found = tuple(read_as(kind, cleaned(event)) for event in events if event["event"] == name)
    for one in found:
        if not 0 <= one.arm < arms:
            raise unreadable(name, f"there is no arm {one.arm}")
    return found
