"""Compares 8-bit files with those of ONNX Runtime's own quantiser and of NNCF, and all with float32.

ONNX Runtime's quantiser is called with the settings that its documentation recommends for this processor (uint8
activations, int8 weights per channel, 7 bits where VNNI is missing) on the same images, and again as it comes (int8
activations); NNCF, on the same ONNX file, as it comes. OpenVINO's files run in OpenVINO, all others in ONNX Runtime.
All files of one network take turns: one image of 224 pixels, one thread, processor time, median of the ratios of a
round. Weights are random, with statistics of normalisation from random images: speed depends on neither. Two files more
of each ResNet: with half the channels of every layer removed and in 8 bits, in each runtime; and after the step
``quantise``, of ResNet-18. Goals: at least 1.05 of ONNX Runtime's recommended file in each network; for a ResNet 3.4
times OpenVINO's float32 there, and halved 9.5 times the whole one's float32 in ONNX Runtime, 10 times in OpenVINO; a
trained file as fast as others, within 2 %.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from _common import Goal, arguments, finish, interleaved, paired_ratio, table, warm_seconds
from _networks import take_statistics

from edgecr.core.processor import vnni
from edgecr.data.base import ImageSet, Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.views import LearningData, ProofData
from edgecr.exporters.base import parse_target
from edgecr.exporters.onnx import OnnxTarget
from edgecr.exporters.onnx.coverage import integer_work
from edgecr.exporters.onnx.rounding import rounded
from edgecr.exporters.onnx.write import silence, write
from edgecr.exporters.openvino import OpenVinoTarget
from edgecr.exporters.openvino import write as openvino_write
from edgecr.exporters.openvino.coverage import integer_work as integer_work_in_openvino
from edgecr.exporters.openvino.layers import for_one_image
from edgecr.methods.base import methods
from edgecr.models import architecture
from edgecr.predictors.onnx_predictor import open_session
from edgecr.predictors.openvino_file import read_openvino
from edgecr.predictors.openvino_predictor import compiled
from edgecr.subject import Subject
from edgecr.surgery.carry_out import prune_channels
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.training.context import StepContext

NETWORKS, QUICK = ("resnet18", "mobilenet_v2", "resnet50"), ("resnet18", "mobilenet_v2")
SIDE, IMAGES = 224, 16
TURN_S = 0.05
FLOAT, OURS, PEER, AS_IT_COMES = "float32", "EdgeCR", "ONNX Runtime", "ONNX Runtime as it comes"
NNCF, FLOAT_IN_OPENVINO, OURS_IN_OPENVINO = "NNCF", "OpenVINO float32", "OpenVINO EdgeCR"
SIDES = (FLOAT, OURS, PEER, AS_IT_COMES, NNCF, FLOAT_IN_OPENVINO, OURS_IN_OPENVINO)
"""The forms that every network has."""
HALVED, HALVED_IN_OPENVINO, TRAINED = "halved", "OpenVINO halved", "trained for 8 bits"
PREPROCESSING = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (SIDE, SIDE))


def network(name: str) -> Subject:
    """A network whose activations have the sizes of a trained one."""
    subject = Subject.create(architecture({"arch": f"torchvision:{name}"}), 1000, (SIDE, SIDE), seed=0)
    take_statistics(subject.module, noise())
    return subject


def noise() -> torch.Tensor:
    """Inputs that statistics come from."""
    return torch.randn(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def halved(subject: Subject) -> Subject:
    """The network without half the channels of each layer."""
    found = ScoringInputs(subject.module)
    pruned = prune_channels(subject.input_shape, scores.get("l2"), found, Limits(), half_of_each_layer)
    cut = subject.with_changes(pruned.cut).with_module(pruned.module)
    take_statistics(cut.module, noise())
    return cut


def half_of_each_layer(planner: Planner) -> Plan:
    """The same fraction of every group."""
    return planner.by_sparsity("layer", 0.5)


def trained(subject: Subject, shown: ImageSet, folder: Path) -> Subject:
    """The network after one pass of the step ``quantise``."""
    learning = LearningData("random", tuple(map(str, range(1000))), shown, shown, PREPROCESSING, "none", "")
    step = methods.get("quantise").parse({"epochs": 1, "batch": 8, "weight_bits": 8 if vnni() else 7})
    return step.apply(subject, StepContext(learning, 0, folder))


def files(name: str, folder: Path) -> dict[str, Path]:
    """The network in float32 and by each quantiser."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    shown = MemorySet(images, np.arange(IMAGES))
    proof = ProofData((), PREPROCESSING, "", shown, shown)
    subject, inputs = network(name), PREPROCESSING.apply(images)
    made = in_onnx(subject, proof, folder)
    made |= {side: folder / f"{side}.onnx" for side in (PEER, AS_IT_COMES)}
    by_peer(made[FLOAT], made[PEER], inputs, recommended=True)
    by_peer(made[FLOAT], made[AS_IT_COMES], inputs, recommended=False)
    made[NNCF] = by_nncf(made[FLOAT], folder / "nncf.onnx", inputs)
    made[FLOAT_IN_OPENVINO] = in_openvino(subject, proof, "fp32", made_folder(folder, "fp32"))
    made[OURS_IN_OPENVINO] = in_openvino(subject, proof, "int8", made_folder(folder, "int8"))
    if name.startswith("resnet"):
        less = halved(network(name))
        made[HALVED] = in_onnx(less, proof, made_folder(folder, "halved"))[OURS]
        made[HALVED_IN_OPENVINO] = in_openvino(less, proof, "int8", made_folder(folder, "halved-int8"))
    if name == "resnet18":
        place = made_folder(folder, "trained")
        made[TRAINED] = in_onnx(trained(network(name), shown, place), proof, place)[OURS]
    return made


def made_folder(parent: Path, name: str) -> Path:
    """A new folder."""
    (parent / name).mkdir()
    return parent / name


def in_onnx(subject: Subject, proof: ProofData, folder: Path) -> dict[str, Path]:
    """The network's ONNX files in float32 and in 8 bits."""
    target = parse_target({"name": "int8", "purpose": "a benchmark", "format": "onnx", "precision": "int8"})
    assert isinstance(target, OnnxTarget)
    made = {side: folder / f"{side}.onnx" for side in (FLOAT, OURS)}
    written = write(subject, target, PREPROCESSING, made[FLOAT])
    made[OURS].write_bytes(made[FLOAT].read_bytes())
    rounded(written, target, proof, made[OURS])
    return made


def in_openvino(subject: Subject, proof: ProofData, precision: str, folder: Path) -> Path:
    """The network's file for OpenVINO."""
    values = {"name": "benchmark", "purpose": "a benchmark", "format": "openvino", "precision": precision}
    target = parse_target(values)
    assert isinstance(target, OpenVinoTarget)
    openvino_write.write(subject, target, proof, folder)
    return folder / target.main


def by_nncf(source: Path, file: Path, inputs: np.ndarray) -> Path:
    """The file of ``nncf.quantize``."""
    with silence():
        import nncf

        shown = nncf.Dataset([{"input": image[None]} for image in inputs])
        onnx.save(nncf.quantize(onnx.load(source), shown, subset_size=len(inputs)), file)
    return file


def by_peer(source: Path, file: Path, inputs: np.ndarray, *, recommended: bool) -> None:
    """The file of ``quantize_static``."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._left, None)
            return None if image is None else {"input": image[None]}

    options = {"per_channel": True, "activation_type": QuantType.QUInt8, "reduce_range": not vnni()}
    with silence():
        quantize_static(onnx.load(source), file, Reader(), **(options if recommended else {}))


def runner(file: Path) -> Callable[[], float]:
    """Processor time of one image, in the file's own runtime."""
    image = np.random.default_rng(1).standard_normal((1, 3, SIDE, SIDE), dtype=np.float32)
    if file.suffix == ".xml":
        request = compiled(for_one_image(read_openvino(file)), file, threads=1).create_infer_request()
        return lambda: warm_seconds(lambda: request.infer([image]), TURN_S)
    session = open_session(file, threads=1)
    return lambda: warm_seconds(lambda: session.run(None, {"input": image}), TURN_S)


def main() -> int:
    """Prints the table and judges the goals."""
    options = arguments(__doc__).parse_args()
    rows, figures, goals = list[list[object]](), dict[str, object](), list[Goal]()
    for name in QUICK if options.quick else NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            made = files(name, Path(folder))
            samples = interleaved({side: runner(file) for side, file in made.items()}, 15 if options.quick else 31)
            shares = {
                OURS: integer_work(made[OURS]),
                OURS_IN_OPENVINO: integer_work_in_openvino(made[OURS_IN_OPENVINO]),
            }
            smaller = made[FLOAT].stat().st_size / made[OURS].stat().st_size
        speed = {side: paired_ratio(samples[FLOAT], each) for side, each in samples.items()}
        ratio, own = paired_ratio(samples[PEER], samples[OURS]), paired_ratio(samples[NNCF], samples[OURS])
        within = paired_ratio(samples[FLOAT_IN_OPENVINO], samples[OURS_IN_OPENVINO])
        whole = {side: work.share if work else 0.0 for side, work in shares.items()}
        usual = [speed[side] for side in SIDES]
        rows.append([name, *usual, ratio, own, within, *whole.values(), smaller])
        figures |= {f"{name} over ONNX Runtime": ratio, f"{name} over float32": speed[OURS]}
        figures |= {f"{name} over NNCF": own, f"{name} in OpenVINO over its float32": within}
        figures |= {f"{name} in OpenVINO over float32": speed[OURS_IN_OPENVINO]}
        figures |= {f"{name} integers": whole[OURS], f"{name} integers in OpenVINO": whole[OURS_IN_OPENVINO]}
        goals.append(Goal(f"{name} over ONNX Runtime", at_least=1.05))
        if name.startswith("resnet"):
            goals.append(Goal(f"{name} in OpenVINO over its float32", at_least=3.4))
        for side, least in ((HALVED, 9.5), (HALVED_IN_OPENVINO, 10.0)):
            if side in speed:
                figures[f"{name} {side} over float32"] = speed[side]
                goals.append(Goal(f"{name} {side} over float32", at_least=least))
        if TRAINED in samples:
            figures[f"{name} trained over not"] = paired_ratio(samples[OURS], samples[TRAINED])
            goals.append(Goal(f"{name} trained over not", at_least=0.98))
    print(f"Speed-ups over float32; the processor of this machine {'has' if vnni() else 'lacks'} VNNI.")
    header = ["network", *SIDES]
    header += ["EdgeCR / ONNX Runtime", "EdgeCR / NNCF", "in OpenVINO / its float32"]
    print(table([*header, "in integers", "in OpenVINO", "smaller"], rows))
    return finish("int8", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
