"""The runner that measures through the agent, over whatever connects to it."""

from __future__ import annotations

from abc import abstractmethod

from edgecr.core.errors import DeviceFailed
from edgecr.core.progress import Monitor
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.agent.session import MeasuringSession
from edgecr.runners.agent.turn import take_turn
from edgecr.runners.base import MeasurePlan, Runner
from edgecr.runners.device import BoardTransport, Device
from edgecr.runners.measurement.record import Measurement
from edgecr.runners.power_cycle import started_again
from edgecr.runners.tensorrt.session import TensorRtSession


class AgentRunner(Runner):
    """Measures through the agent; what differs between runners is only how it is reached."""

    @abstractmethod
    def start(self) -> Connection:
        """Starts the agent."""

    def connect(
        self, purpose: str = "measuring", monitor: Monitor | None = None, *, shared: bool = False
    ) -> Connection:
        """Starts the agent, on a board that hangs after switching it off and on, and waits for its turn there."""
        told, transport = monitor or Monitor(), self.device.transport
        cycle = transport.power_cycle if isinstance(transport, BoardTransport) else None
        agent = started_again(self.start, cycle, self.device.name, told)
        try:
            take_turn(agent, self.device, purpose, told, shared)
        except BaseException:
            agent.close()
            raise
        return agent

    def measure(self, plan: MeasurePlan, monitor: Monitor | None = None) -> Measurement:
        """Carries out the plan; a board's failure is ``error`` in the result, beside what it had sent."""
        plan.check(self.device)
        session = session_for(self.device, plan, monitor or Monitor())
        try:
            with self.connect(purpose_of(plan), session.monitor) as agent:
                session.run(agent)
        except DeviceFailed as error:
            session.break_off(error)
        return session.result()


def session_for(device: Device, plan: MeasurePlan, monitor: Monitor) -> MeasuringSession:
    """The session of a plan: arms that a program of the board times have one of their own."""
    return (TensorRtSession if plan.by_tool(device) else MeasuringSession)(device, plan, monitor)


def purpose_of(plan: MeasurePlan) -> str:
    """The plan in a few words, for whoever waits for the board."""
    return f"measuring {', '.join(dict.fromkeys(arm.path.name for arm in plan.arms))}"
