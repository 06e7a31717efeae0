"""Models cut and joined along the wire format: the very bytes of ``onnx``, views instead of copies, damage told."""

from __future__ import annotations

import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel import wire
from xxdeploy.onnxmodel.model import OnnxModel

ARRAYS: dict[str, NDArray[Any]] = {
    "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "f64": np.array([[[1.5]]]),
    "f16": np.ones((2, 1), np.float16),
    "bf16": np.ones(3, ml_dtypes.bfloat16),
    "f8": np.ones(5, ml_dtypes.float8_e4m3fn),
    "i4": np.array([-8, 7, 1], ml_dtypes.int4),
    "u4": np.array([[15]], ml_dtypes.uint4),
    "i8": np.array([[-128, 127]], np.int8),
    "u8": np.arange(200, dtype=np.uint8),
    "i16": np.array([-300], np.int16),
    "i32": np.array([2**31 - 1], np.int32),
    "i64": np.array(-5),
    "u64": np.array([2**64 - 1], np.uint64),
    "flags": np.array([True, False]),
    "scalar": np.array(2.5, np.float32),
    "none": np.zeros((0, 4), np.float32),
    "complex": np.array([1 + 2j], np.complex64),
    "words": np.array(["", "zwölf"], object),
    "a name / of any kind:0": np.zeros(1, np.float32),
}


def example(**arrays: NDArray[Any]) -> onnx.ModelProto:
    """Return a model that fills every kind of field, with ``ARRAYS`` or ``arrays`` as its initializers."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n] x) => (float[n] y) {y = Relu(x)}'
    )
    proto.producer_name, proto.doc_string, proto.model_version = "somebody", "what it is", 3
    proto.metadata_props.append(onnx.StringStringEntryProto(key="k", value="v"))
    proto.functions.append(onnx.FunctionProto(name="f", domain="d", output=["o"]))
    proto.graph.doc_string = "more"
    proto.graph.value_info.append(helper.make_tensor_value_info("t", 1, [2]))
    proto.graph.sparse_initializer.append(onnx.SparseTensorProto(dims=[3]))
    proto.graph.quantization_annotation.append(onnx.TensorAnnotation(tensor_name="x"))
    for name, array in (arrays or ARRAYS).items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def data_of(proto: onnx.ModelProto) -> bytes:
    return bytes(proto.SerializeToString(deterministic=True))


def test_split_and_join_give_the_very_bytes_of_onnx() -> None:
    content = data_of(example())
    proto, arrays = wire.split(content)
    assert not proto.graph.initializer
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tolist() == array.tolist()
    assert wire.join(proto, arrays) == content
    assert OnnxModel.join(*OnnxModel(content).split()).digest == OnnxModel(content).digest


def test_the_value_is_a_view_of_the_file_that_nobody_can_write() -> None:
    _, arrays = wire.split(data_of(example()))
    assert not arrays["f32"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        arrays["f32"][0, 0] = 1


def test_parts_that_a_model_leaves_out_stay_out() -> None:
    for proto in (onnx.ModelProto(graph=onnx.GraphProto()), onnx.ModelProto(graph=onnx.GraphProto(name=""))):
        assert wire.join(*wire.split(data_of(proto))) == data_of(proto)


def test_fields_that_this_version_does_not_know_are_kept() -> None:
    strange = b"\xca\x3e\x03new"  # field 1001
    proto, arrays = wire.split(data_of(example()) + strange)
    assert wire.join(proto, arrays) == data_of(example()) + strange


def test_the_order_of_fields_is_free_in_a_file_and_fixed_in_ours() -> None:
    proto = example()
    graph = onnx.ModelProto(graph=proto.graph)
    proto.ClearField("graph")
    shuffled = graph.SerializeToString() + proto.SerializeToString()
    assert wire.join(*wire.split(shuffled)) == data_of(example())


def test_values_that_are_not_raw_are_read_too() -> None:
    proto = example()
    proto.graph.initializer.append(helper.make_tensor("typed", 1, [2], [1.5, 2.5]))
    _, arrays = wire.split(data_of(proto))
    assert arrays["typed"].tolist() == [1.5, 2.5]


def test_transposed_sliced_and_broadcast_arrays_are_written_as_they_read() -> None:
    proto, arrays = wire.split(data_of(example()))
    arrays["f32"] = arrays["f32"].T[::-1]
    arrays["i8"] = np.broadcast_to(np.int8(3), (2, 2))
    arrays["i64"] = np.arange(8)[::3]
    _, again = wire.split(wire.join(proto, arrays))
    assert again["f32"].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert again["i8"].tolist() == [[3, 3], [3, 3]]
    assert again["i64"].tolist() == [0, 3, 6]


def test_join_wants_the_initializers_beside_the_graph() -> None:
    with pytest.raises(ValueError, match="belong into"):
        wire.join(example(), {})


def test_a_skeleton_names_large_arrays_and_holds_small_ones() -> None:
    proto, arrays = wire.split(data_of(example(small=np.arange(3), large=np.zeros((40, 40), np.float32))))
    small = wire.skeleton(proto, arrays)
    assert [tensor.name for tensor in small.graph.initializer] == ["small"]
    assert [value.name for value in small.graph.input] == ["x", "large"]
    assert not proto.graph.initializer


def test_large_weights_are_not_copied() -> None:
    weights = np.zeros(13_000_000, np.float32)
    content = wire.join(wire.split(data_of(example()))[0], {"w": weights})
    assert len(content) > 50_000_000
    tracemalloc.start()
    try:
        proto, arrays = wire.split(content)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.reset_peak()
        wire.join(proto, arrays)
        assert tracemalloc.get_traced_memory()[1] < len(content) + 1_000_000  # the result itself
    finally:
        tracemalloc.stop()


def code_of(content: bytes) -> str | None:
    try:
        wire.join(*OnnxModel(content).split())
    except ConversionError as error:
        return error.code
    return None


def test_damage_is_our_error_and_nothing_else() -> None:
    content = data_of(example())
    random = np.random.default_rng(0)
    inputs = [content[:end] for end in range(1, len(content), 3)]
    for kind in range(3000):
        damaged = bytearray(content)
        at = int(random.integers(0, len(content)))
        if kind % 3 == 0:
            damaged[at:at] = random.bytes(int(random.integers(1, 12)))
        elif kind % 3 == 1:
            del damaged[at : at + int(random.integers(1, 20))]
        else:
            for place in random.integers(0, len(content), random.integers(1, 5)):
                damaged[place] = random.integers(0, 256)
        inputs.append(bytes(damaged))
    inputs += [random.bytes(40) for _ in range(500)]
    codes = [code_of(item) for item in inputs]
    assert set(codes) <= {None, "unreadable-onnx"}
    assert codes.count("unreadable-onnx") > 2000


def initializer(**fields: Any) -> bytes:
    proto = example()
    proto.graph.initializer.append(onnx.TensorProto(**fields))
    return data_of(proto)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 30,  # a tag without an end
        b"\x3a\xff\xff\xff\xff\x0f",  # a graph of 4 GB
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a graph of 8 EB
        b"\x3b",  # a group, which protobuf gave up
        b"\x08\x08",  # no graph
        b"\x38\x01",  # a graph that is a number
        b"PK\x03\x04 a zip file",
        b"\x89HDF\r\n\x1a\n",
        initializer(name="f32", data_type=1, dims=[0], raw_data=b""),  # the second of its name
        initializer(name="z", data_type=1, dims=[-1], raw_data=b"1234"),
        initializer(name="z", data_type=1, dims=[2**62], raw_data=b"1234"),
        initializer(name="z", data_type=1, dims=[2], raw_data=b"12345"),
        initializer(name="z", data_type=0, dims=[1], raw_data=b"1234"),
        initializer(name="z", data_type=99, dims=[1], raw_data=b"1234"),
        initializer(name="z", data_type=8, dims=[1], raw_data=b"12345678"),  # strings are never raw
        initializer(name="z", data_type=1, dims=[2**40]),  # no values at all
        initializer(name="z", data_type=22, dims=[9], raw_data=b"12"),
    ],
)
def test_unreadable(content: bytes) -> None:
    assert code_of(content) == "unreadable-onnx"


def test_weights_in_another_file_are_refused() -> None:
    entry = onnx.StringStringEntryProto(key="location", value="/etc/passwd")
    for fields in ({"external_data": [entry]}, {"data_location": onnx.TensorProto.EXTERNAL}):
        with pytest.raises(ConversionError, match="another file") as caught:
            wire.split(initializer(name="z", data_type=1, dims=[1], **fields))
        assert caught.value.code == "unreadable-onnx"


def test_the_pieces_are_the_file() -> None:
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 2] a) => (float[n, 3] b) {b = MatMul(a, w)}'
    )
    pieces = wire.chunks(proto, {"w": weights})
    assert b"".join(pieces) == wire.join(proto, {"w": weights})
    assert any(
        isinstance(piece, memoryview) and np.shares_memory(np.frombuffer(piece, np.uint8), weights) for piece in pieces
    )
