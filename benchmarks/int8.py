"""Compares 8-bit files with those of ONNX Runtime's own quantiser and of NNCF, and all with float32.

ONNX Runtime's quantiser is called with the settings that its documentation recommends for this processor (uint8
activations, int8 weights per channel, 7 bits where VNNI is missing) on the same images, and again as it comes (int8
activations); NNCF, on the same ONNX file, as it comes. OpenVINO's files run in OpenVINO, all others in ONNX Runtime.
All files of one network take turns: one image of 224 pixels, one thread, processor time, median of the ratios of a
round. Weights are random, with statistics of normalisation from random images: speed depends on neither. Goals: at
least 1.05 of ONNX Runtime's recommended file in each network, and for a ResNet 3.4 times OpenVINO's float32 there.
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
from edgecr.data.base import Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters.base import parse_target
from edgecr.exporters.onnx import OnnxTarget
from edgecr.exporters.onnx.coverage import integer_work
from edgecr.exporters.onnx.rounding import rounded
from edgecr.exporters.onnx.write import silence, write
from edgecr.exporters.openvino import OpenVinoTarget
from edgecr.exporters.openvino.coverage import integer_work as integer_work_in_openvino
from edgecr.exporters.openvino.layers import for_one_image
from edgecr.exporters.openvino.write import from_onnx
from edgecr.models import architecture
from edgecr.predictors.onnx_predictor import open_session
from edgecr.predictors.openvino_file import read_openvino
from edgecr.predictors.openvino_predictor import compiled
from edgecr.subject import Subject

NETWORKS, QUICK = ("resnet18", "mobilenet_v2", "resnet50"), ("resnet18", "mobilenet_v2")
SIDE, IMAGES = 224, 16
TURN_S = 0.05
FLOAT, OURS, PEER, AS_IT_COMES = "float32", "EdgeCR", "ONNX Runtime", "ONNX Runtime as it comes"
NNCF, FLOAT_IN_OPENVINO, OURS_IN_OPENVINO = "NNCF", "OpenVINO float32", "OpenVINO EdgeCR"
PREPROCESSING = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (SIDE, SIDE))


def network(name: str) -> Subject:
    """A network whose activations have the sizes of a trained one."""
    subject = Subject.create(architecture({"arch": f"torchvision:{name}"}), 1000, (SIDE, SIDE), seed=0)
    inputs = torch.randn(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    take_statistics(subject.module, inputs)
    return subject


def files(name: str, folder: Path) -> dict[str, Path]:
    """The network in float32 and by each quantiser."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    shown = MemorySet(images, np.arange(IMAGES))
    proof = ProofData((), PREPROCESSING, "", shown, shown)
    target = parse_target({"name": "int8", "purpose": "a benchmark", "format": "onnx", "precision": "int8"})
    assert isinstance(target, OnnxTarget)
    made = {side: folder / f"{side}.onnx" for side in (FLOAT, OURS, PEER, AS_IT_COMES)}
    subject = network(name)
    written = write(subject, target, PREPROCESSING, made[FLOAT])
    made[OURS].write_bytes(made[FLOAT].read_bytes())
    rounded(written, target, proof, made[OURS])
    inputs = PREPROCESSING.apply(images)
    by_peer(made[FLOAT], made[PEER], inputs, recommended=True)
    by_peer(made[FLOAT], made[AS_IT_COMES], inputs, recommended=False)
    made[NNCF] = by_nncf(made[FLOAT], folder / "nncf.onnx", inputs)
    for side, precision in ((FLOAT_IN_OPENVINO, "fp32"), (OURS_IN_OPENVINO, "int8")):
        values = {"name": "benchmark", "purpose": "a benchmark", "format": "openvino", "precision": precision}
        target = parse_target(values)
        assert isinstance(target, OpenVinoTarget)
        place = folder / precision
        place.mkdir()
        from_onnx(made[FLOAT], written, subject, target, proof, place)
        made[side] = place / target.main
    return made


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
        rows.append([name, *speed.values(), ratio, own, within, *whole.values(), smaller])
        figures |= {f"{name} over ONNX Runtime": ratio, f"{name} over float32": speed[OURS]}
        figures |= {f"{name} over NNCF": own, f"{name} in OpenVINO over its float32": within}
        figures |= {f"{name} in OpenVINO over float32": speed[OURS_IN_OPENVINO]}
        figures |= {f"{name} integers": whole[OURS], f"{name} integers in OpenVINO": whole[OURS_IN_OPENVINO]}
        goals.append(Goal(f"{name} over ONNX Runtime", at_least=1.05))
        if name.startswith("resnet"):
            goals.append(Goal(f"{name} in OpenVINO over its float32", at_least=3.4))
    print(f"Speed-ups over float32; the processor of this machine {'has' if vnni() else 'lacks'} VNNI.")
    header = ["network", *(FLOAT, OURS, PEER, AS_IT_COMES, NNCF, FLOAT_IN_OPENVINO, OURS_IN_OPENVINO)]
    header += ["EdgeCR / ONNX Runtime", "EdgeCR / NNCF", "in OpenVINO / its float32"]
    print(table([*header, "in integers", "in OpenVINO", "smaller"], rows))
    return finish("int8", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
