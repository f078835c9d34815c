"""Files of boards that are not here, as their kernels show them."""

from __future__ import annotations

from pathlib import Path

GPU = "sys/class/devfreq/17000000.gpu/"
OC = "sys/class/hwmon/hwmon2/"
INA = "sys/class/hwmon/hwmon3/"
ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/meminfo": "MemTotal: 7802000 kB\nMemAvailable: 5000000 kB\nCmaTotal: 262144 kB\nCmaFree: 9000 kB\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "var/lib/dpkg/status": (
        "Package: libnvinfer10\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n\n"
        "Package: libnvinfer8\nStatus: deinstall ok config-files\nVersion: 8.6.2.3-1+cuda12.2\n\n"
        "Package: cuda-cudart-12-6\nStatus: install ok installed\nVersion: 12.6.68-1\n"
    ),
    GPU + "cur_freq": "306000000\n",
    GPU + "min_freq": "306000000\n",
    GPU + "max_freq": "624750000\n",
    GPU + "available_frequencies": "306000000 510000000 624750000 1020000000\n",
    GPU + "governor": "nvhost_podgov\n",
    "sys/kernel/nvpmodel_clk_cap/emc": "2133000000\n",
    "sys/class/thermal/thermal_zone0/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "50562\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
    OC + "name": "soctherm_oc\n",
    OC + "oc1_event_cnt": "0\n",
    OC + "oc3_event_cnt": "41\n",
    OC + "oc3_throt_en": "1\n",
    INA + "name": "ina3221\n",
    INA + "in1_label": "VDD_IN\n",
    INA + "in1_input": "5000\n",
    INA + "curr1_input": "1300\n",
    INA + "in2_label": "VDD_CPU_GPU_CV\n",
    INA + "in2_input": "4990\n",
    INA + "curr2_input": "246\n",
    INA + "in3_label": "NC\n",
    INA + "in3_input": "5008\n",
    INA + "curr3_input": "476\n",
    INA + "in7_label": "sum of shunt voltages\n",
    INA + "in7_input": "9\n",
    "sys/class/hwmon/hwmon0/name": "nvme\n",
}
RAPL = "sys/class/powercap/intel-rapl:0/"
LAPTOP = {
    RAPL + "name": "package-0\n",
    RAPL + "max_energy_range_uj": "262143328850\n",
    RAPL + "energy_uj": "262143000000\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "7\n",
}


def board(root: Path, files: dict[str, str]) -> str:
    """The root of a board with those files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)
