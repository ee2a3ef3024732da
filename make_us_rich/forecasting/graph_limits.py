"""What a graph may hold before ONNX Runtime opens it: known operators, not too many nodes, and no graph inside another.

A model comes from a registry that others may write to. `Loop`, `Scan` and `If` could run for ever, and an operator that
our exports do not use has never been tested here. The file is read as protobuf's wire format, because the package
`onnx` takes 0.2 s to import and is no part of a serving image.
"""

from __future__ import annotations

from collections.abc import Iterator

from make_us_rich.core.errors import BadModel

_EXPORTED = """
Add AveragePool Cast Clip Concat Constant ConstantOfShape Conv Cos Div Erf Exp Floor GRU Gather Gemm GreaterOrEqual
Identity LSTM LayerNormalization Log MatMul Max Min Mul Pow ReduceMean ReduceSum Reshape Shape Sin Slice Softmax Split
Sqrt Squeeze Sub TopK Transpose Unsqueeze
"""  # every architecture and interval, the shipped foundation, and models of older versions
_OF_OTHER_NETWORKS = """
Abs And BatchNormalization Elu Equal Expand Flatten Greater HardSigmoid HardSwish InstanceNormalization LeakyRelu Less
LessOrEqual LogSoftmax MaxPool Neg Not Or PRelu Pad RNN ReduceMax ReduceMin Relu Sigmoid Sign Softplus Tanh Where
"""  # common layers, for architectures that are added
ALLOWED_OPERATORS = frozenset(_EXPORTED.split() + _OF_OTHER_NETWORKS.split())
"""Each computes from its inputs alone: none repeats, branches, draws random numbers or reads files."""

MOST_NODES = 5000
"""Our largest export, `patchtst` of 15m candles, has 1,119."""

_LARGEST_GRAPH = 64 * 2**20  # bytes; our exports have 0.27 MB at most

# Numbers of protobuf's fields, from onnx.proto
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE = 1
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_GRAPHS = (6, 11)  # one graph, several
_STANDARD_DOMAINS = (b"", b"ai.onnx")


def check_graph(model: bytes) -> None:
    """Raise BadModel unless the model holds allowed operators alone, few enough nodes, and no nested graph."""
    if len(model) > _LARGEST_GRAPH:
        raise BadModel(f"the graph has {len(model)} bytes, {_LARGEST_GRAPH} are allowed")
    nodes = 0
    for number, content in _fields(model):
        if number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise BadModel("the graph brings functions or training information of its own, which is not allowed")
        if number != _MODEL_GRAPH:
            continue
        for kind, node in _fields(content):
            if kind == _GRAPH_NODE:
                nodes += 1
                _check_node(node)
    if nodes > MOST_NODES:
        raise BadModel(f"the graph has {nodes} nodes, {MOST_NODES} are allowed")


def _check_node(node: bytes) -> None:
    for number, content in _fields(node):
        name = content.decode(errors="replace")[:60] if number in (_NODE_OPERATOR, _NODE_DOMAIN) else ""
        if number == _NODE_OPERATOR and name not in ALLOWED_OPERATORS:
            raise BadModel(
                f"the graph uses the operator {name!r}, which is not allowed: see ALLOWED_OPERATORS in "
                "make_us_rich/forecasting/graph_limits.py"
            )
        if number == _NODE_DOMAIN and content not in _STANDARD_DOMAINS:
            raise BadModel(f"the graph uses an operator of {name!r}: only ONNX's own are allowed")
        if number == _NODE_ATTRIBUTE and any(kind in _ATTRIBUTE_GRAPHS for kind, _ in _fields(content)):
            raise BadModel("the graph holds another graph, which is not allowed")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field of a message; empty content for a number. Raises BadModel."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            _, position = _varint(message, position)
            yield number, b""
            continue
        if wire_type == 2:
            length, position = _varint(message, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise BadModel("the graph does not load: it is no ONNX model")
        if position + length > len(message):
            raise BadModel("the graph does not load: it is cut off, or no ONNX model")
        yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    value = 0
    if position < len(message) and message[position] < 128:  # nearly always
        return message[position], position + 1
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise BadModel("the graph does not load: it is cut off, or no ONNX model")
