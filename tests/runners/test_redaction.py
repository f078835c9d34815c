"""Files that are sent on name neither the board nor its network."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecr.runners.doctor import Examination, Finding
from edgecr.runners.redaction import to_be_sent
from tests.runners.tiny_device import quick_device

SETTINGS = "Host orin-lab\n HostName orin.lab.example.com\n User ada\n ProxyJump ada@gate.example.com:2222\n"


@pytest.fixture
def device(tmp_path: Path):
    (tmp_path / "config").write_text(SETTINGS)
    return quick_device(transport={"kind": "ssh", "host": "orin-lab", "ssh_options": ["-F", str(tmp_path / "config")]})


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (
            "Board 'orin-lab' cannot be reached: ssh: connect to host orin.lab.example.com port 22: timed out",
            "Board 'BOARD' cannot be reached: ssh: connect to host BOARD port 22: timed out",
        ),
        ("connect to host 192.168.1.50 port 22: refused", "connect to host BOARD port 22: refused"),
        ("Connection closed by 10.0.0.2 port 22.", "Connection closed by BOARD port 22."),
        ("Connection closed by fe80::1:2:3:4 port 22.", "Connection closed by BOARD port 22."),
        ("Could not resolve hostname other.example.com: no", "Could not resolve hostname BOARD: no"),
        ("ada@gate.example.com: Permission denied", "BOARD: Permission denied"),
        ("Timeout, server elsewhere not responding.", "Timeout, server BOARD not responding."),
        (f"Change transport.python in {Path.home()}/x/orin.yaml.", "Change transport.python in ~/x/orin.yaml."),
    ],
)
def test_a_failure_of_ssh_names_no_machine(device, said: str, sent: str) -> None:
    told = Examination(device={}, findings=(Finding(check="connection", state="fail", text=said, remedy=said),))
    (one,) = to_be_sent(told, device).findings
    assert (one.text, one.remedy) == (sent, sent)


def test_versions_stay(device) -> None:
    finding = Finding(check="libraries", state="ok", text="TensorRT 10.3.0.30, orin-lab, orin-labels")
    (one,) = to_be_sent(Examination(device={}, findings=(finding,)), device).findings
    assert one.text == "TensorRT 10.3.0.30, BOARD, orin-labels"


def test_a_device_of_this_machine_has_no_name_to_hide() -> None:
    told = Examination(device={}, findings=(Finding(check="board", state="ok", text="a laptop"),))
    assert to_be_sent(told, quick_device()) == told
