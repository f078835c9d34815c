"""The schema of a device declaration, a file in ``devices/``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator
from typing_extensions import Self

from edgecr.core import builtin
from edgecr.core.errors import NotConfigured
from edgecr.core.names import Name
from edgecr.core.options import Options
from edgecr.core.yaml_text import check, decoded, parse_yaml, read_bytes
from edgecr.runners.power import Power
from edgecr.runners.runtimes import RuntimeOptions, Runtimes
from edgecr.runners.runtimes.ort import OrtOptions
from edgecr.runners.ssh_options import check_ssh_options

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Value = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
PING_S = 5.0
"""Seconds between the signs of life that the host sends to the agent."""


def _longer_than_a_ping(lease_s: float) -> float:
    if lease_s < PING_S:
        raise ValueError(f"the host gives a sign of life every {PING_S:g} s; a lease must last at least as long")
    return lease_s


Lease = Annotated[float, AfterValidator(_longer_than_a_ping)]


class LocalTransport(Options):
    """The agent runs on this machine, as a process of its own."""

    kind: Literal["local"]
    env: dict[Variable, Value] = Field(default_factory=dict)
    """Environment variables for the agent."""
    lease_s: Lease = 30.0
    """The agent ends itself after that long without a sign of life."""


Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.][A-Za-z0-9_.@:%\[\]-]*$")]
Argument = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]


def _of_one_place(command: tuple[str, ...]) -> tuple[str, ...]:
    program = command[0]
    if ("/" in program or "\\" in program) and not Path(program).is_absolute():
        raise ValueError(f"{program}: give a name, or an absolute path, so that it is the same from every folder")
    return command


class PowerCycle(Options):
    """A command of this machine that switches a board off and on again."""

    command: Annotated[tuple[Argument, ...], Field(min_length=1), AfterValidator(_of_one_place)]
    """The program, by its name or its absolute path, and its arguments; no shell reads them."""
    wait_s: Seconds = 180.0
    """Seconds that the board may take until it answers again."""


class BoardTransport(Options):
    """The agent runs on a board, reached by the system's own ``ssh`` with the user's own settings."""

    host: Host | None = None
    """An ssh name, usually a ``Host`` of ~/.ssh/config; None: nobody has said yet where the board is."""
    python: Argument = "python3"
    """The board's Python (3.6 or later) that has numpy and the runtime."""
    ssh_options: Annotated[tuple[str, ...], AfterValidator(check_ssh_options)] = ()
    """Further arguments for ``ssh``, such as ``-p`` and a port; none that runs a command."""
    connect_timeout_s: Count = 10
    """Seconds to wait for the board to answer."""
    env: dict[Variable, Value] = Field(default_factory=dict)
    """Environment variables for the agent, such as TMPDIR."""
    lease_s: Lease = 30.0
    """The agent ends itself after that long without a sign of life."""
    lock_wait_s: Annotated[float, Field(ge=0)] = 600.0
    """Seconds to wait while somebody else measures on the board: one session at a time has it.

    The lock is a file in /tmp there; `env: {EDGECR_BOARD_LOCK: PATH}` puts it elsewhere.
    """
    keep_uploads_mb: Annotated[int, Field(ge=1)] | None = None
    """Megabytes of models that stay on the board, in ~/.cache/edgecr-board, each sent once; none when left out."""
    power_cycle: PowerCycle | None = None
    """The way to switch a board off and on that does not answer; done once before giving up."""


class SshTransport(BoardTransport):
    """A board that is reached under its ssh name."""

    kind: Literal["ssh"]


class LabgridTransport(BoardTransport):
    """A board of a labgrid lab: its place is acquired for the time of a session, and reached by ``ssh``.

    Without ``host`` the address of the place's NetworkService is taken. Needs ``labgrid-client`` on this machine.
    """

    kind: Literal["labgrid"]
    place: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")] | None = None
    """The name of the place; or leave it out and give ``tags``."""
    tags: dict[
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    ] = Field(default_factory=dict)
    """Any place that has these tags, reserved for the session."""
    coordinator: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:\[\]-]+$")] | None = None
    """HOST:PORT of the coordinator; labgrid's own default when left out."""
    reserve_wait_s: Seconds = 600.0
    """Seconds to wait for a place to become free."""

    @model_validator(mode="after")
    def _names_a_place(self) -> Self:
        if (self.place is None) == (not self.tags):
            raise ValueError("give either place, or tags")
        return self


Transport = Annotated[LocalTransport | SshTransport | LabgridTransport, Field(discriminator="kind")]


class Warmup(Options):
    """The condition under which an arm counts as warm."""

    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Two window medians in a row must lie this near to the one before."""
    window_s: Seconds = 0.5
    """Length of a window."""
    max_s: Seconds = 20.0
    """Give up after that long, and say that it never was steady."""


class Throughput(Options):
    """The measurement of throughput, separate from latency."""

    seconds: Seconds = 3.0
    """Length of one measurement."""
    streams: Annotated[tuple[Count, ...], Field(min_length=1)] = (1,)
    """Numbers of inferences that run at once."""


class CoolDown(Options):
    """The wait for a board to be cool before a measurement begins."""

    below_c: float
    """Every thermal zone must be cooler than this."""
    max_s: Seconds = 600.0
    """Measure after that long all the same, and say so."""


class Protocol(Options):
    """Extent of the measurement; the defaults are careful, a device file may ask for less."""

    launches: Count = 3
    """Fresh processes; intervals are over launches, 5 are needed to find differences of a few percent."""
    rounds: Count = 30
    """Rounds of a launch; in each, every arm has one turn, in shuffled order."""
    round_s: Seconds = 0.3
    """Length of one turn."""
    least_rounds: Count = 7
    """Rounds that are done even when the time limit is used up."""
    max_s: Seconds = 120.0
    """No new round starts after that long in a launch."""
    warmup: Warmup = Warmup()
    cool_down: CoolDown | None = None
    """The temperature to wait for before the first launch; no wait when left out."""
    throughput: Throughput | None = None
    """Options of a throughput measurement, separate from latency; not measured when left out."""
    gate_wait: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """Launches that waited for the processor for that share or more give no absolute latency, nor throughput.

    Nor do they where the kernel does not tell how long they waited, as in some containers.
    """
    gate_steal: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """The same for the share of time that the hypervisor took away, counted as if all of it had hit the measurement."""
    gate_switches: Annotated[float, Field(gt=0)] = 200.0
    """The same for forced context switches in a second: each empties caches that the next calls have to fill."""

    def override(self, **values: int | None) -> Self:
        """The same protocol with some values replaced, checked again; None keeps a value."""
        given = {key: value for key, value in values.items() if value is not None}
        return self.parse(self.model_dump(mode="json") | given)


class Expect(Options):
    """The state that a board must be in; a board in another state is not measured."""

    l4t: str | None = None
    """Pattern (``*``, ``?``) for the version of NVIDIA's L4T, such as ``36.4.*``, or for /etc/nv_tegra_release."""
    tensorrt: str | None = None
    """Pattern for the version of TensorRT, such as ``10.3.*``."""
    power_mode: str | None = None
    """Name of the power mode, as ``nvpmodel -q`` tells it; a name proves no clock, so see ``gpu_mhz``."""
    gpu_mhz: Annotated[float, Field(gt=0)] | None = None
    """Clock in MHz that the GPU must be allowed at least."""
    clocks_locked: bool | None = None
    """True where the clocks may not follow the load, as after ``sudo jetson_clocks``."""
    governor: str | None = None
    """The frequency governor of every core."""
    max_temperature_c: float | None = None
    """No thermal zone may be hotter at the start."""


@dataclass(frozen=True)
class Origin:
    """The party that vouches for a device, and the device's file; devices of different origin are still equal."""

    owner: Literal["nobody", "program", "shipped", "own", "foreign"] = field(default="nobody", compare=False)
    file: Path | None = field(default=None, compare=False)
    sha256: str = field(default="", compare=False)


class Device(Options):
    """One named board declaration, a file in ``devices/``."""

    schema_version: Literal[1] = 1
    name: Name
    purpose: str
    kind: Literal["cpu", "jetson", "rpi"]
    transport: Transport
    units: tuple[Host, ...] = ()
    """Several boards of this kind, by their ssh names, instead of `transport.host`: each measures the whole plan, and
    a claim is made only if they agree."""
    runtimes: Runtimes = Field(default={"ort": OrtOptions()})
    """The runtimes that the device has, by name; the ones left out are not used on it."""
    protocol: Protocol = Protocol()
    align: Count = 8
    """Channel counts that are a multiple of this suit the device's kernels."""
    expect: Expect = Expect()
    power: Power | None = None
    """Options of the measurement of power and energy; not measured when left out."""
    _origin: Origin = PrivateAttr(default=Origin())

    @property
    def origin(self) -> Origin:
        """The origin of the declaration; nobody vouches for one that was read from a record."""
        return self._origin

    @property
    def declared_in(self) -> str:
        """The file to change, for messages."""
        return str(self.origin.file or f"devices/{self.name}.yaml")

    @property
    def called(self) -> str:
        """The name by which commands find it again: the file's place for one that lies elsewhere."""
        return str(self.origin.file) if self.origin.owner == "foreign" else self.name

    def with_origin(self, origin: Origin) -> Self:
        """The same declaration from elsewhere."""
        copied = self.model_copy()
        copied._origin = origin
        return copied

    @model_validator(mode="after")
    def _has_units_or_a_host(self) -> Self:
        if not self.units:
            return self
        if not isinstance(self.transport, SshTransport):
            raise ValueError("units are ssh names: they need `transport: {kind: ssh}`")
        if self.transport.host is not None:
            raise ValueError("give the boards under units, or one under transport.host, not both")
        if len(set(self.units)) < len(self.units):
            raise ValueError("a unit is named twice")
        return self

    def unit(self, host: str) -> Self:
        """The same declaration for one of its units alone."""
        transport = self.transport.model_copy(update={"host": host})
        return self.model_copy(update={"transport": transport, "units": ()})

    def runtime_options(self, name: str) -> dict[str, Any]:
        """All settings of one runtime; one that the device does not declare is NotConfigured."""
        return self.runtime(name).model_dump(mode="json")

    def runtime(self, *names: str) -> RuntimeOptions:
        """The options of the first of some runtimes that the device declares; NotConfigured when there is none."""
        return self.runtimes[self.runtime_name(*names)]

    def runtime_name(self, *names: str) -> str:
        """The first of some runtimes that the device declares; NotConfigured when there is none."""
        found = next((name for name in names if name in self.runtimes), None)
        if found is None:
            raise NotConfigured(
                f"Device {self.name!r} declares no runtime {' or '.join(map(repr, names))} "
                f"(it has {', '.join(self.runtimes)}). Add it under 'runtimes:' in {self.declared_in}."
            )
        return found


def load_device(name: str, beside: Path | None = None) -> Device:
    """Reads a device declaration by name or path, to show or check it; a runner is made of trusted ones only."""
    file = builtin.find("devices", name, beside)
    content = read_bytes(file)
    device = check(Device, parse_yaml(decoded(content, file), str(file)))
    owner: builtin.Owner = builtin.owner("devices", file)
    twin = builtin.shipped("devices", file.stem)
    if owner == "foreign" and twin and read_bytes(twin) == content:
        owner = "shipped"  # a copy of it in a clone, say
    return device.with_origin(Origin(owner, file, hashlib.sha256(content).hexdigest()))
