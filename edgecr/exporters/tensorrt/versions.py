"""Versions of TensorRT as data: the files that their ONNX parsers take.

The facts are those of TensorRT's documentation and of its ONNX parser's list of operators; nothing here was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

_SINCE_8_2 = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Concat
Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu
Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool
GlobalMaxPool Greater GreaterOrEqual HardSigmoid Identity If InstanceNormalization IsNaN LRN LSTM LeakyRelu Less
LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean Min Mul Neg Not Or PRelu Pad Pow
QuantizeLinear RNN RandomUniform RandomUniformLike Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence Round Scan Scatter
ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split
Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where
"""
_SINCE_8_5 = """
GridSample HardSwish MeanVarianceNormalization Mod NonMaxSuppression NonZero OneHot RandomNormal RandomNormalLike
Reciprocal RoiAlign Shrink Trilu Xor
"""
_SINCE_10 = """
CastLike DeformConv Gelu GroupNormalization Hardmax IsInf LayerNormalization Mish
"""
_8_2 = frozenset(_SINCE_8_2.split())
_8_5 = _8_2.union(_SINCE_8_5.split())
_10 = _8_5.union(_SINCE_10.split())


@dataclass(frozen=True)
class Version:
    """One version of TensorRT, as far as a file and its build depend on it."""

    name: str
    number: tuple[int, int]
    opset: int
    """The newest opset of the parser."""
    ir_version: int
    """The newest file version of the ONNX release that the parser is built with."""
    operators: frozenset[str]
    source: str
    """The documents that this is from, in words."""

    @property
    def strongly_typed(self) -> bool:
        """True where a network may keep the types of its file; required from TensorRT 11 on."""
        return self.number >= (10, 0)

    @property
    def int8_weights(self) -> bool:
        """True where weights may be stored as int8; before, they are floats that the file rounds."""
        return self.number >= (10, 0)

    @property
    def uint8_ends(self) -> bool:
        """True where inputs and outputs may be uint8; nothing between them may."""
        return self.number >= (10, 0)

    @property
    def data_dependent_k(self) -> bool:
        """True where TopK may take a computed number."""
        return self.number >= (10, 0)


def _version(name: str, opset: int, ir_version: int, operators: frozenset[str], source: str) -> Version:
    major, minor = map(int, name.split("."))
    return Version(name, (major, minor), opset, ir_version, operators, source)


_TEN = "the list of operators of its ONNX parser for version 10.1, the newest one that was read"
_BY_JETPACK = {
    4: (
        _version(
            "8.2", 13, 7, _8_2, "TensorRT's documentation of version 8.2, and its ONNX parser's list of operators"
        ),
    ),
    5: (
        _version(
            "8.5", 17, 8, _8_5, "TensorRT's documentation of version 8.5, and its ONNX parser's list of operators"
        ),
    ),
    6: (_version("10.3", 20, 10, _10, f"TensorRT's documentation of version 10.3, and {_TEN}"),),
    7: (
        _version("10.13", 20, 10, _10, f"TensorRT's documentation of version 10.13, and {_TEN}"),
        _version("10.16", 20, 10, _10, f"TensorRT's documentation of version 10.16, and {_TEN}"),
        _version("11.4", 24, 12, _10, f"TensorRT's documentation of version 11.4, and {_TEN}"),
    ),
}
"""By JetPack: 4.6.1 and later, 5.1 and later, 6.1 and later, and 7.0 to 7.2 with its add-on."""
OLDEST_OPSET = 9
"""The oldest opset that every one of them takes."""


def versions_of(jetpack: int) -> tuple[Version, ...]:
    """The versions of TensorRT that boards with some JetPack may have."""
    return _BY_JETPACK[jetpack]
