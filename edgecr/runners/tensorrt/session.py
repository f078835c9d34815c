"""A measuring session whose arms are engines of TensorRT: each is built once, then timed by trtexec in turns."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgecr.core.errors import DeviceFailed, EdgecrError, RequestError
from edgecr.core.progress import Bar, Monitor
from edgecr.runners.agent.events import Event
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.agent.session import MeasuringSession
from edgecr.runners.agent.watching import of_alone, of_launch
from edgecr.runners.base import MeasurePlan
from edgecr.runners.device import Device
from edgecr.runners.measurement.readings import Watched
from edgecr.runners.measurement.record import Alone, Launch, Rate, Round, Start
from edgecr.runners.runtimes.tensorrt import TensorRtOptions
from edgecr.runners.tensorrt import commands
from edgecr.runners.tensorrt.answers import EngineAnswers
from edgecr.runners.tensorrt.board import BoardTrtexec, TrtBoard, TrtBuild, TrtRun
from edgecr.runners.tensorrt.build_file import BuildFile
from edgecr.runners.tensorrt.commands import Places
from edgecr.runners.tensorrt.engine import AGREEMENT, Engine, EngineParity, LayerTime
from edgecr.runners.tensorrt.model_input import ModelInput
from edgecr.runners.tensorrt.output import compute_times, layer_facts, layer_spans

MEMORY = "device_memory_mib"


@dataclass(frozen=True)
class _Arm:
    """One arm as trtexec is told it."""

    label: str
    places: Places
    shapes: str | None


class TensorRtSession(MeasuringSession):
    """Builds the engines after the files were sent; a turn is one short run of trtexec."""

    def __init__(self, device: Device, plan: MeasurePlan, monitor: Monitor) -> None:
        super().__init__(device, plan, monitor)
        options = device.runtime(plan.arms[0].runtime)
        assert isinstance(options, TensorRtOptions)
        self.options = options
        self.files = {arm.path: BuildFile.beside(arm.path) for arm in plan.arms}
        self.inputs = {path: ModelInput.of(path) for path in self.files}
        self.asked = [
            _Arm(arm.label, Places(self.payloads[number].name), self.shapes(arm.path, arm.batch))
            for number, arm in enumerate(plan.arms)
        ]
        self.unstable: dict[int, list[float]] = {}
        self.device_mib: dict[int, float] = {}
        self.told_s = 0.0

    def shapes(self, path: Path, batch: int) -> str | None:
        """The input's name and shape with a batch, for trtexec; None where the file fixes it."""
        one, asked = self.inputs[path], self.files[path].dims(batch)
        if asked is not None:
            return commands.shapes_of(one.name, asked)
        if one.dims and one.dims[0] not in (None, batch):
            raise RequestError(
                f"Input {one.name!r} of {path} has the fixed batch {one.dims[0]}, but {batch} was asked for. "
                "Export it with another `batch:` of the target."
            )
        return None

    def send_files(self, agent: Connection) -> None:
        """Sends the files, and has each engine built."""
        super().send_files(agent)
        self.trtexec = BoardTrtexec(agent, self.options, self._running)
        self.board = self.trtexec.probe(self.facts)
        for path in self.files:
            self.build(agent, path)

    def build(self, agent: Connection, path: Path) -> None:
        """Builds the engine of one file; what the board said of it goes into the result."""
        arms = tuple(number for number, arm in enumerate(self.plan.arms) if arm.path == path)
        places, label = self.asked[arms[0]].places, self.asked[arms[0]].label
        flags = commands.build_flags(self.board.version, self.options, self.files[path], places)
        self.monitor.say(f"Making the engine of {label} ready on {self.device.name} (TensorRT {self.board.version})")
        built = self.trtexec.build(self.board, flags, places, self.payloads[arms[0]].sha256)
        if built.cached and not self.trtexec.loads(self.board, places, self.asked[arms[0]].shapes, label):
            self.warn([f"The engine of {label} that was built before does not load any more; building it anew."])
            built = self.trtexec.build(self.board, flags, places, self.payloads[arms[0]].sha256, anew=True)
        how = "was built before" if built.cached else f"built in {built.seconds:.0f} s"
        self.monitor.say(f"Engine of {label}: {how}, {built.size / 1e6:.1f} MB")
        self.warn(list(built.notes))
        self.engines.append(engine_of(arms, self.board, flags, built, self.proven(agent, arms[0])))

    def proven(self, agent: Connection, arm: int) -> EngineParity | None:
        """The engine's answers beside those that its file should give, with a warning where they differ."""
        proof, asked, path = self.plan.arms[arm].proof, self.asked[arm], self.plan.arms[arm].path
        if proof is None:
            return None
        answers = EngineAnswers(
            agent, self.trtexec, self.board, self.options, asked.places, self.files[path], self.inputs[path]
        )
        try:
            found = proof(answers)
        except EdgecrError as error:
            self.warn([f"The engine of {asked.label} could not be asked about the images of its file: {error}"])
            return None
        if found.agreement < AGREEMENT:
            others = f"{1 - found.agreement:.1%} of {found.images} images otherwise than its file should"
            self.warn([f"The engine of {asked.label} answers {others}: its speed is that of another model."])
        return found

    def _running(self, seconds: float, text: str) -> None:
        """Tells that trtexec still runs, ever more rarely."""
        if seconds < self.told_s or seconds >= 2 * self.told_s:
            self.told_s = seconds
            self.monitor.say(f"trtexec has been running for {seconds:.0f} s: {text}")

    def launch(self, agent: Connection, number: int, bar: Bar) -> None:
        """Rounds in which every engine has one run of trtexec, in an order shuffled anew each round."""
        starts, rounds, events = dict[int, Start](), list[Round](), list[Event]()
        ended: Literal["rounds", "time"] | None = None
        try:
            for turn, run in self._turns(number):
                rounds.append(turn)
                events.extend(run.events)
                starts.setdefault(turn.arm, start_of(turn.arm, run, self.board))
                bar.advance(1, launch=f"{number + 1}/{self.protocol.launches}")
            ended = "rounds" if len(rounds) == self.protocol.rounds * len(self.arms) else "time"
        except DeviceFailed as error:
            raise self.broken(error, number, len({one.number for one in rounds})) from error
        finally:
            if rounds:
                watched = Watched.of(events)
                self.launches.append(
                    Launch(starts=tuple(starts.values()), rounds=tuple(rounds), ended=ended, watched=watched)
                )

    def _turns(self, number: int) -> Iterator[tuple[Round, TrtRun]]:
        """The turns of a launch, each with the run it is from; always whole rounds."""
        order, start = list(range(len(self.arms))), time.monotonic()
        shuffle = random.Random(self.plan.seed + number).shuffle
        for count in range(self.protocol.rounds):
            if count >= self.protocol.least_rounds and time.monotonic() - start > self.protocol.max_s:
                return
            shuffle(order)
            for arm in order:
                run, ns = self.timed(arm, self.protocol.round_s, of_launch(self.device))
                self._note(arm, run)
                yield turn_of(arm, count, run, ns), run

    def timed(self, arm: int, seconds: float, watch: Mapping[str, Any], streams: int = 1) -> tuple[TrtRun, list[int]]:
        """One run of trtexec, and the times of its inferences on the GPU."""
        asked = self.asked[arm]
        flags = commands.turn_flags(self.board.version, self.options, asked.places, asked.shapes, seconds, streams)
        run = self.trtexec.run(f"timing {asked.label}", flags, [asked.places.of("times.json")], seconds, watch)
        return run, compute_times(run.files.get(asked.places.of("times.json")), self.options.warmup_ms)

    def _note(self, arm: int, run: TrtRun) -> None:
        """Keeps what else a turn told: memory, and trtexec's doubt."""
        if (memory := run.log.figures.get("device_mib")) is not None:
            self.device_mib[arm] = memory
        if run.log.unstable is not None:
            self.unstable.setdefault(arm, []).append(run.log.unstable)

    def measure_alone(self, agent: Connection, number: int) -> None:
        """The throughput of one engine with several streams, then the layers of an engine that has not told yet."""
        asked, rates, events, start = self.protocol.throughput, list[Rate](), list[Event](), None
        for streams in asked.streams if asked else ():
            run, ns = self.timed(number, asked.seconds if asked else 0.0, of_alone(self.device), streams)
            events.extend(run.events)
            start = start or start_of(number, run, self.board)
            if (wall := run.log.figures.get("wall_s")) is not None and wall > 0:
                elapsed = round(wall * 1e9)
                rates.append(Rate(arm=number, streams=streams, calls=len(ns), elapsed_ns=elapsed, program=run.program))
        if start:
            self.alone.append(Alone(start=start, rates=tuple(rates), watched=Watched.of(events)))
        self._finish(number)

    def _finish(self, number: int) -> None:
        """Adds to an engine what was learned of its first arm, and warns of what trtexec doubted."""
        place = next((place for place, engine in enumerate(self.engines) if engine.arms[0] == number), None)
        if place is not None:
            told = {
                "wall_ms": self.wall_ms(number),
                "device_mib": self.device_mib.get(number),
                "layers": self.layers(number),
            }
            self.engines[place] = self.engines[place].model_copy(update=told)
        if doubted := self.unstable.get(number):
            self.warn(
                [
                    f"trtexec calls the GPU's time of {self.asked[number].label} unstable in {len(doubted)} turns "
                    f"(coefficient of variation up to {max(doubted):.0f} %): lock the clocks (sudo jetson_clocks)."
                ]
            )

    def wall_ms(self, arm: int) -> float | None:
        """The mean time of one inference on the host."""
        turns = [one for launch in self.launches for one in launch.rounds if one.arm == arm and one.wall_ns is not None]
        calls = sum(len(one.ns) for one in turns)
        return sum(one.window_ns for one in turns) / calls / 1e6 if calls else None

    def layers(self, arm: int) -> tuple[LayerTime, ...]:
        """The layers of an engine with their times; a board that does not tell them is no failure."""
        if not self.options.layers:
            return ()
        asked, seconds = self.asked[arm], self.protocol.round_s
        flags = commands.layer_flags(self.board.version, self.options, asked.places, asked.shapes, seconds)
        files = [asked.places.of(name) for name in ("profile.json", "layers.json")]
        try:
            run = self.trtexec.run(f"timing the layers of {asked.label}", flags, files, 2 * seconds)
            spans, facts = layer_spans(run.files.get(files[0])), layer_facts(run.files.get(files[1]))
        except DeviceFailed as error:
            self.warn([f"The layers of {asked.label} were not timed: {error}"])
            return ()
        known = {span.name: facts.get(span.name) for span in spans}
        return tuple(
            LayerTime(
                name=span.name,
                ms=span.average_ms if span.median_ms is None else span.median_ms,
                kind=fact.kind if (fact := known[span.name]) else "",
                precision=fact.precision if fact else "",
            )
            for span in spans
        )


def engine_of(
    arms: tuple[int, ...], board: TrtBoard, flags: list[str], built: TrtBuild, parity: EngineParity | None
) -> Engine:
    """An engine as a measurement records it."""
    return Engine(
        arms=arms,
        tensorrt=str(board.version),
        gpu=board.gpu,
        capability=board.capability,
        flags=tuple(flags),
        seconds=built.seconds,
        cached=built.cached,
        size_bytes=built.size,
        sha256=built.sha256,
        log_sha256=built.log_sha256,
        log=built.text,
        parity=parity,
    )


def turn_of(arm: int, number: int, run: TrtRun, ns: list[int]) -> Round:
    """A turn as a measurement records it; its end is the moment when trtexec told that it was done."""
    seconds = run.log.figures.get("trace_s", run.log.figures.get("wall_s"))
    wall = sum(ns) if seconds is None else round(seconds * 1e9)
    return Round(
        arm=arm,
        number=number,
        start_ns=max(0, (run.told_ns or wall) - wall),
        ns=tuple(ns),
        program=run.program,
        wall_ns=wall,
    )


def start_of(arm: int, run: TrtRun, board: TrtBoard) -> Start:
    """The start of an engine in one run, as far as trtexec tells it."""
    load = run.log.figures.get("load_s")
    return Start(
        arm=arm,
        import_ns=None,
        load_ns=None if load is None else round(load * 1e9),
        first_ns=None,
        memory_kb={},
        info={
            "runtime": "tensorrt",
            "version": str(board.version),
            "gpu": board.gpu,
            "power_mode": board.power_mode,
            MEMORY: run.log.figures.get("device_mib"),
        },
    )
