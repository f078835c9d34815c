"""Facts about a Jetson: release, TensorRT, CUDA, clocks of the GPU and of memory, power mode; None elsewhere."""

import os
import re
from typing import Any, Dict, Optional

from . import tools
from .tree import below, match, number, read

GPU = r"gpu|gv11b|gp10b|ga10b|gm20b"  # names of device folders, of the Nano's to the Thor's GPU
PACKAGES = ("nvidia-l4t-core", "tensorrt", "libnvinfer10", "libnvinfer8", "libnvinfer7", "libnvinfer-bin")


def facts(root: str = "/") -> Dict[str, Any]:
    """Everything about a Jetson that a measurement may depend on."""
    packages = installed(root)
    return {
        "l4t": read(os.path.join(root, "etc/nv_tegra_release")),
        "l4t_version": l4t_version(root, packages),
        "tensorrt": tensorrt(packages),
        "cuda": cuda(root, packages),
        "power_mode": power_mode(),
        "gpu_clocks": gpu_clocks(root),
        "memory_clock": memory_clock(root),
        "dla_cores": dla_cores(root),
    }


def release(root: str = "/") -> Optional[str]:
    """The version of L4T; None elsewhere."""
    return l4t_version(root, installed(root))


def installed(root: str = "/") -> Dict[str, str]:
    """Versions of the system's packages that matter, from the package manager's own list."""
    found, name, there = {}, "", False
    try:
        with open(os.path.join(root, "var/lib/dpkg/status"), encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key == "Package":
                    name, there = value.strip(), False
                elif key == "Status":
                    there = value.split()[-1:] == ["installed"]
                elif key == "Version" and there and (name in PACKAGES or name.startswith("cuda-cudart-")):
                    found[name] = value.strip()
    except OSError:
        pass
    return found


def l4t_version(root: str, packages: Dict[str, str]) -> Optional[str]:
    """``36.4.3``, from the release file, or from the package where that file is missing."""
    text = read(os.path.join(root, "etc/nv_tegra_release")) or ""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    if found:
        return "%s.%s" % found.groups()
    package = re.match(r"[\d.]+", packages.get("nvidia-l4t-core", ""))
    return package.group(0) if package else None


def tensorrt(packages: Dict[str, str]) -> Optional[str]:
    """The version of TensorRT's library, without an import of it."""
    for name in ("libnvinfer10", "libnvinfer8", "libnvinfer7", "libnvinfer-bin", "tensorrt"):
        found = re.match(r"(?:\d+:)?([\d.]+)", packages.get(name, ""))
        if found:
            return found.group(1)
    return None


def cuda(root: str, packages: Dict[str, str]) -> Optional[str]:
    """The version of CUDA."""
    folder = os.path.join(root, "usr/local/cuda")
    told = match(os.path.join(folder, "version.json"), r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"')
    told = told or match(os.path.join(folder, "version.txt"), r"CUDA Version ([\d.]+)")
    named = sorted(version for name, version in packages.items() if name.startswith("cuda-cudart-"))
    newest = re.match(r"[\d.]+", named[-1]) if named else None
    return told or (newest.group(0) if newest else None)


def power_mode() -> Optional[Dict[str, Any]]:
    """Name and number of the power mode, as the board's own tool tells them; changing it is never asked for."""
    return mode_in(tools.told(["nvpmodel", "-q"]))


def mode_in(text: Optional[str]) -> Optional[Dict[str, Any]]:
    """The power mode in what ``nvpmodel -q`` printed."""
    found = re.search(r"NV Power Mode:\s*(\S+)\s*(\d+)?", text or "")
    if not found:
        return None
    return {"name": found.group(1), "id": int(found.group(2)) if found.group(2) else None}


def gpu_clocks(root: str = "/") -> Dict[str, Any]:
    """Clocks of the GPU (Hz): now, the range that is allowed, all that there are, and the governor."""
    for folder in gpu_folders(root):
        possible = re.findall(r"\d+", read(folder + "/available_frequencies") or "")
        clocks = {
            "now": number(folder + "/cur_freq"),
            "least": number(folder + "/min_freq"),
            "allowed": number(folder + "/max_freq"),
            "possible": max(map(int, possible)) if possible else None,
            "governor": read(folder + "/governor"),
        }
        if clocks["now"] is not None:
            return clocks
    return {}


def gpu_now(root: str = "/") -> Optional[int]:
    """The GPU's clock just now (Hz)."""
    return next(iter(value for folder in gpu_folders(root) for value in [number(folder + "/cur_freq")] if value), None)


def gpu_folders(root: str) -> Any:
    """The folders in which a driver tells of a GPU's clocks."""
    return [path for path in below(root, "sys/class/devfreq/*") if re.search(GPU, os.path.basename(path))]


def memory_clock(root: str = "/") -> Dict[str, Optional[int]]:
    """The cap of the memory's clock, and its rate where it may be read (root only on most boards); Hz."""
    return {
        "allowed": number(os.path.join(root, "sys/kernel/nvpmodel_clk_cap/emc")),
        "now": number(os.path.join(root, "sys/kernel/debug/bpmp/debug/clk/emc/rate")),
    }


def dla_cores(root: str = "/") -> Optional[int]:
    """The number of deep-learning accelerators that the kernel drives; None where it names none.

    An installed compiler for them proves nothing: boards without any have it too.
    """
    return len(below(root, "sys/bus/platform/devices/*nvdla*")) or None
