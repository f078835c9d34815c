"""Exports a zoo of CNNs, whole and cut by 30 %, as float32 and 8-bit files, and runs every file beside PyTorch.

The networks are torchvision's and timm's, of random weights. Each is written by the exporters of the targets `onnx`,
`onnx-int8` and `openvino` (and `openvino-int8` if named); ONNX files are asked in ONNX Runtime and in OpenVINO, the
others in OpenVINO. Parity is what the product judges: 1e-4 of the largest number for float32; for 8 bits a cosine of
0.8 for 19 images in 20, and the same answer to nine in ten. All targets of a network share one pass through torch's
exporter. Every state of a network has a process of its own and each file a limit of processor time. Cells that are
finished stay in the folder `--work`, where the same command goes on; files that failed are made again with `--again`.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _common import Goal, arguments, finish
from _zoo_export import Case, warm_up
from coverage import CLASSIFIERS

from edgecr.core.environment import cpu_model, version
from edgecr.core.files import read_json, write_json

TORCHVISION = """
    resnet18 squeezenet1_1 mobilenet_v2 resnet34 mobilenet_v3_small mnasnet0_5 squeezenet1_0 shufflenet_v2_x0_5 resnet50
    mnasnet1_0 mobilenet_v3_large shufflenet_v2_x1_0 googlenet regnet_y_400mf regnet_y_800mf efficientnet_b0
    resnext50_32x4d alexnet wide_resnet50_2 densenet121 inception_v3 vgg11 vgg11_bn convnext_tiny efficientnet_b1
"""
TIMM = """
    resnet10t resnet14t lcnet_050 resnet18d gernet_s selecsls42 seresnet18 lcnet_100 mobilenetv3_small_050
    mobilenetv3_small_100 mnasnet_small tinynet_e mobilenetv1_100 mobilenetv2_050 mobilenetv4_conv_small repvgg_a0
    resnet26 dla34 dla46_c semnasnet_075 semnasnet_100 spnasnet_100 fbnetc_100 hardcorenas_a efficientnet_lite0
    tf_efficientnet_lite0 mobilenetv3_large_100 mobilenetv3_rw regnetx_002 regnety_002 resnetblur18 hgnetv2_b0
    ese_vovnet19b_dw ghostnet_100 repghostnet_050 resnet26d resnet26t selecsls60b vovnet39a rexnet_100 rexnetr_100
    cs3darknet_s darknet53 cspresnet50 cspdarknet53 repvgg_b0 mobilenetv4_conv_medium mobilenet_edgetpu_v2_xs
    efficientnet_es tinynet_a skresnet18 legacy_seresnet18 ecaresnet26t dla60 res2net50_14w_8s res2next50 resnest14d
    tf_efficientnet_lite1 hardcorenas_f mixnet_s mixnet_m tf_mixnet_s fbnetv3_b ghostnetv2_100 convnext_atto
    convnextv2_atto edgenext_xx_small fasternet_t0 starnet_s1 repvit_m0_9 mobileone_s0 resnet32ts nf_resnet26
    seresnext26d_32x4d dpn68 xception41 tresnet_m efficientvit_b0 hrnet_w18_small
"""
QUICK = ("torchvision:resnet18", "torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small")
QUICK += ("timm:resnet10t", "timm:lcnet_050", "timm:repvgg_a0")
TARGETS, ALL = ("onnx", "onnx-int8", "openvino"), ("onnx", "onnx-int8", "openvino", "openvino-int8")
SIDE = 64
SIDES = {"alexnet": 224, "vgg11": 224, "vgg11_bn": 224, "inception_v3": 96}
STATES = {"whole": False, "cut": True}
LIMIT_S = 180
"""Processor time of one file."""
BEGIN, END = "<!-- table of benchmarks/zoo.py -->", "<!-- end of the table -->"


def zoo() -> list[str]:
    """All networks, cheap and common ones of both libraries first."""
    ours = [f"torchvision:{name}" for name in TORCHVISION.split()]
    assert not {name.partition(":")[2] for name in ours} - {*CLASSIFIERS}
    theirs = [f"timm:{name}" for name in TIMM.split()]
    places = [(number / len(names), name) for names in (ours, theirs) for number, name in enumerate(names)]
    return [name for _, name in sorted(places)]


@dataclass(frozen=True)
class Entry:
    """One network of the zoo with the cells of its two states."""

    name: str
    cells: dict[str, dict[str, Any]]

    @property
    def faults(self) -> list[str]:
        """Everything that failed, with its reason."""
        found = [f"{state}: {cell['fault']}" for state, cell in self.cells.items() if cell.get("fault")]
        for state, cell in self.cells.items():
            found += [f"{state}, {target}: {file['fault']}" for target, file in cell["files"].items() if file["fault"]]
        return found

    def row(self) -> list[str]:
        """The cells of the table."""
        whole, cut = (self.cells[state] for state in STATES)
        kept = f"{cut['macs'] / whole['macs']:.0%}" if "macs" in cut and "macs" in whole else "-"
        macs = f"{whole['macs'] / 1e6:,.0f}" if "macs" in whole else "-"
        figures = [self._figure(state, rounded) for state in STATES for rounded in (False, True)]
        return [self.name, str(whole["side"]), macs, kept, *figures, *self.integers()]

    def integers(self) -> list[str]:
        """The share of the work that ONNX Runtime does in integers, of the whole network."""
        share = self.cells["whole"]["files"].get("onnx-int8", {}).get("integers")
        return ["-" if share is None else f"{share:.0%}"]

    def _figure(self, state: str, rounded: bool) -> str:
        """The worst figure of a state's files of one precision in all runtimes."""
        files = {k: file for k, file in self.cells[state]["files"].items() if k.endswith("int8") == rounded}
        failed = [target for target, file in files.items() if file["fault"]]
        if failed or not files:
            return f"**no** ({', '.join(failed) or 'cannot be cut'})"
        answers = [answer for file in files.values() for answer in file["runtimes"].values()]
        if rounded:
            return f"{min(answer['cosine'] for answer in answers):.4f}"
        return f"{max(answer['max_rel'] for answer in answers):.1e}"


HEADER = ("network", "pixels", "M MACs", "kept", "float32", "8 bits", "cut, float32", "cut, 8 bits", "integers")
WIDTHS = (36, 6, 7, 5, 12, 12, 12, 12, 8)


def line(cells: Sequence[str]) -> str:
    """One line of the table on the terminal."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS)).rstrip()


@dataclass(frozen=True)
class Work:
    """The folder of finished cells, and what belongs into it."""

    folder: Path
    options: Namespace

    def entry(self, name: str) -> Entry:
        """A network's cells; those that are not in the folder are made."""
        for state, cut in STATES.items():
            self._make(name, state, cut)
        return self.known(name)

    def known(self, name: str) -> Entry:
        """A network's cells as they are in the folder."""
        return Entry(name, {state: read_json(self._file(name, state)) for state in STATES})

    def finished(self, name: str) -> bool:
        """True if all cells of a network are there."""
        return all(self._file(name, state).is_file() for state in STATES)

    def _make(self, name: str, state: str, cut: bool) -> None:
        file, side = self._file(name, state), SIDES.get(name.partition(":")[2], SIDE)
        known: dict[str, Any] = read_json(file) if file.is_file() else {"side": side, "files": {}}
        if self.options.again:
            known["files"] = {target: each for target, each in known["files"].items() if not each["fault"]}
            known.pop("fault", None)
        missing = tuple(target for target in self.options.targets if target not in known["files"])
        if "fault" in known or not missing:
            return
        case = Case(name, side, cut, LIMIT_S, self.options.data)
        before = known["files"]

        def keep(found: dict[str, Any]) -> None:
            write_json(file, found | {"files": before | found["files"]})

        ended = run_alone(case, missing, keep)
        told = read_json(file) if file.is_file() else known
        lost = {target: {"runtimes": {}, "fault": ended} for target in missing if target not in told["files"]}
        if "fault" not in told and lost:
            write_json(file, told | {"files": told["files"] | lost})

    def _file(self, name: str, state: str) -> Path:
        return self.folder / f"{name.replace(':', '-')}.{state}.json"


def run_alone(case: Case, targets: tuple[str, ...], keep: Any) -> str:
    """Examines a case in a process of its own, which may die of it; how that ended."""
    process = multiprocessing.get_context("fork").Process(target=case.examined, args=(targets, keep))
    process.start()
    process.join(20 * LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return "its process hung and was ended"
    return f"its process ended with code {process.exitcode}"


def write_table(file: Path, entries: Sequence[Entry], of: int) -> None:
    """Puts the table of finished networks between the two marks in a page, with the machine's facts."""
    packages = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "openvino", "nncf")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    good = sum(not entry.faults for entry in entries)
    rows = [HEADER, ["---"] * len(HEADER), *(entry.row() for entry in entries)]
    done = f"{len(entries)} of {of} networks are done; all files of {good} of them agree."
    lines = [f"{done} {cpu_model()}, {os.cpu_count()} cores; {versions}.", ""]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    failed = [f"- `{entry.name}`, {fault}" for entry in entries for fault in entry.faults]
    lines += ["", "**What failed**", "", *(failed or ["Nothing."])]
    before, _, rest = file.read_text().partition(BEGIN)
    text = "\n".join([before + BEGIN, "", *lines, "", END])
    file.write_text(text + rest.partition(END)[2])


def options() -> Namespace:
    """The command line."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these networks alone, as torchvision:NAME or timm:NAME"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="finished cells stay here; the same command goes on")
    parser.add_argument(
        "--targets", nargs="+", choices=ALL, default=TARGETS, help="the targets; usually without the last"
    )
    parser.add_argument("--again", action="store_true", help="make again what failed")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only write the finished cells into this page")
    return parser.parse_args()


def main() -> int:
    """Examines the networks one by one; each has its line as soon as it is finished."""
    chosen = options()
    torch.set_num_threads(1)
    work = Work(chosen.work or Path(tempfile.mkdtemp(prefix="edgecr-zoo-")), chosen)
    names = chosen.only or (QUICK if chosen.quick else zoo())
    if chosen.table:
        write_table(chosen.table, [work.known(name) for name in names if work.finished(name)], len(names))
        return 0
    warm_up()
    print(line(HEADER), flush=True)
    entries = []
    for name in names:
        begin = time.monotonic()
        entry = work.entry(name)
        entries.append(entry)
        print(line([*entry.row(), f"{time.monotonic() - begin:.0f} s"]), flush=True)
        for fault in entry.faults:
            print(f"    {fault}", flush=True)
    figures: dict[str, Any] = {"networks": len(entries), "agree": sum(not entry.faults for entry in entries)}
    figures |= {entry.name: entry.faults for entry in entries if entry.faults}
    return finish("zoo", figures, [Goal("agree", at_least=min(60, len(entries)))])


if __name__ == "__main__":
    raise SystemExit(main())
