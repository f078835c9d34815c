"""Power sensors of a board: what can be read without root, and the readings, stamped with the rounds' clock."""

import os
import re
import shutil
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import clock, tools
from .tegrastats import Tegrastats
from .tree import below, hwmon, number, read

Reading = Tuple[int, Dict[str, Optional[float]]]
Rails = Dict[str, Callable[[], Optional[float]]]
NO_SENSOR = "no power sensor can be read (a virtual machine, a board without one, or rails that need root)"
NO_RAPL = "no energy counter of a processor package (a virtual machine, ARM, or the driver is not loaded)"
ROOT_ONLY = (
    "%s is readable by root only (CVE-2020-8694): on the board, sudo chmod o+r %s until it restarts, or a udev rule"
)


class Polled(object):
    """Rails that are read whenever they are asked; a rail that cannot be read just now is None."""

    def __init__(self, source: str, unit: str, rails: Rails, period_s: float = 0.0) -> None:
        self.source, self.unit, self.rails, self.period_s = source, unit, rails, period_s

    def start(self) -> None:
        """Nothing has to be started."""

    def take(self) -> List[Reading]:
        """One reading, stamped in the middle of the time that it took."""
        before = clock.now()
        found = {name: rail() for name, rail in self.rails.items()}
        return [((before + clock.now()) // 2, found)]

    def settle(self) -> None:
        """The next reading is of now, so nothing has to be waited for."""

    def stop(self) -> None:
        """Nothing has to be stopped."""


class Pmic(Polled):
    """The power controller of a Raspberry Pi 5, asked through its own tool; a call takes some milliseconds."""

    def __init__(self, first: Dict[str, float]) -> None:
        Polled.__init__(self, "pmic", "mw", dict.fromkeys(first, lambda: None), 0.25)

    def take(self) -> List[Reading]:
        """One reading of all rails."""
        before = clock.now()
        found = pmic_rails(tools.told(["vcgencmd", "pmic_read_adc"]))
        return [((before + clock.now()) // 2, {name: found.get(name) for name in self.rails})]


def monitors(root: str = "/") -> Rails:
    """Milliwatts of each rail of the INA chips, from hwmon; unused channels and sums of shunts are left out."""
    found: Rails = {}
    for name, folder in hwmon(root):
        for rail, reader in chip(folder, name) if name.startswith("ina") else ():
            found[rail if rail not in found else "%s (%s)" % (rail, os.path.basename(folder))] = reader
    return found


def chip(folder: str, name: str) -> List[Tuple[str, Callable[[], Optional[float]]]]:
    """The rails of one chip; one without labels has a single rail, named as the chip is."""
    labels = {
        re.sub(r"\D", "", os.path.basename(path)): read(path) or "" for path in below(folder, "in[0-9]*_label")
    } or {"1": read(folder + "/label") or name}
    found = []
    for channel, label in sorted(labels.items()):
        power, volts, amperes = (folder + "/%s%s_input" % (kind, channel) for kind in ("power", "in", "curr"))
        if label == "NC" or "sum of shunt" in label.lower():
            continue
        if os.path.exists(power):
            found.append((label, scaled(power, 1e-3)))
        elif os.path.exists(amperes):
            found.append((label, product(volts, amperes)))
    return found


def scaled(path: str, factor: float) -> Callable[[], Optional[float]]:
    """A reader of one file, times a factor."""

    def reader() -> Optional[float]:
        value = number(path)
        return None if value is None else value * factor

    return reader


def product(volts: str, amperes: str) -> Callable[[], Optional[float]]:
    """A reader of millivolts and milliamperes, as milliwatts."""

    def reader() -> Optional[float]:
        mv, ma = number(volts), number(amperes)
        return None if mv is None or ma is None else mv * ma / 1e3

    return reader


def old_monitors(root: str = "/") -> Rails:
    """Milliwatts of each rail, as the driver of JetPack 4 tells them."""
    found: Rails = {}
    for label in below(root, "sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"):
        name, channel = read(label), label.rpartition("_")[2]
        power = os.path.join(os.path.dirname(label), "in_power%s_input" % channel)
        if name and name != "NC" and os.path.exists(power):
            found[name] = scaled(power, 1.0)
    return found


def packages(root: str = "/") -> Tuple[Rails, str]:
    """Microjoules so far of each processor package, and the reason where they may not be read."""
    found: Rails = {}
    for zone in below(root, "sys/class/powercap/intel-rapl:*"):
        name, path = read(zone + "/name") or "", zone + "/energy_uj"
        if os.path.basename(zone).count(":") > 1 or not name.startswith("package"):
            continue
        if number(path) is None:
            return {}, ROOT_ONLY % (path, path)
        found[name] = unwrapped(path, number(zone + "/max_energy_range_uj"))
    return found, ""


def unwrapped(path: str, span: Optional[int]) -> Callable[[], Optional[float]]:
    """A reader of a counter that begins again at 0 beyond its span; read it at least once in between."""
    last, total = number(path) or 0, 0

    def reader() -> Optional[float]:
        nonlocal last, total
        value = number(path)
        if value is None or (value < last and not span):
            return None
        total += value - last if value >= last else value - last + (span or 0)
        last = value
        return float(total)

    return reader


def pmic_rails(text: Optional[str]) -> Dict[str, float]:
    """Milliwatts of each rail with both a voltage and a current, in what ``vcgencmd pmic_read_adc`` printed."""
    found = {
        kind: {name: float(value) for name, value in re.findall(r"(\w+)_%s\(\d+\)=([\d.]+)" % kind, text or "")}
        for kind in (r"A current", r"V volt")
    }
    amperes, volts = found["A current"], found["V volt"]
    return {name: amperes[name] * volts[name] * 1e3 for name in sorted(amperes) if name in volts}


def find(source: str = "auto", root: str = "/") -> Tuple[Any, str]:
    """The sensor of a source, or of the first that there is; None with the reason where there is none."""
    reason = ""
    for name in SOURCES if source == "auto" else (source,):
        sensor, why = SOURCES[name](root)
        if sensor:
            return sensor, ""
        reason = reason or why
    return None, reason or (NO_RAPL if source == "rapl" else NO_SENSOR)


def from_chips(root: str) -> Tuple[Any, str]:
    """INA chips, by the driver of newer or older kernels."""
    rails = readable(monitors(root)) or readable(old_monitors(root))
    return (Polled("hwmon", "mw", rails) if rails else None), ""


def readable(rails: Rails) -> Rails:
    """The rails that give a number: some are there and answer nothing, and another source may know better."""
    return {name: reader for name, reader in rails.items() if reader() is not None}


def from_packages(root: str) -> Tuple[Any, str]:
    """Energy counters of processor packages."""
    rails, reason = packages(root)
    return (Polled("rapl", "uj", rails) if rails else None), reason


def from_pmic(root: str) -> Tuple[Any, str]:
    """The power controller of a Raspberry Pi 5."""
    first = pmic_rails(tools.told(["vcgencmd", "pmic_read_adc"]))
    return (Pmic(first) if first else None), ""


def from_tegrastats(root: str) -> Tuple[Any, str]:
    """The statistics tool of a Jetson."""
    places = os.pathsep.join(tools.ELSEWHERE)
    there = shutil.which("tegrastats") or shutil.which("tegrastats", path=places)
    return (Tegrastats() if there else None), ""


SOURCES: Dict[str, Callable[[str], Tuple[Any, str]]] = {
    "hwmon": from_chips,
    "rapl": from_packages,
    "pmic": from_pmic,
    "tegrastats": from_tegrastats,
}


def sensors(root: str = "/") -> Dict[str, Any]:
    """The sensor that would be used, its rails, and the reason where there is none."""
    sensor, reason = find("auto", root)
    rails = sorted(getattr(sensor, "rails", ()))
    return {"source": sensor.source if sensor else None, "rails": rails, "missing": reason}
