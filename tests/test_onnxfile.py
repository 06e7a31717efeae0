from typing import Any

import ml_dtypes
import numpy as np
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from xxdeploy import onnxfile
from xxdeploy.artifacts import OnnxModel
from xxdeploy.errors import ConversionError

ARRAYS: dict[str, NDArray[Any]] = {
    "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "f16": np.ones((2, 1), np.float16),
    "bf16": np.ones(3, ml_dtypes.bfloat16),
    "i8": np.array([[-128, 127]], np.int8),
    "i64": np.array(5),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 4), np.float32),
}


def example() -> bytes:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n] x) => (float[n] y) {y = Relu(x)}'
    )
    proto.producer_name = "somebody"
    proto.metadata_props.append(onnx.StringStringEntryProto(key="k", value="v"))
    proto.graph.value_info.append(helper.make_tensor_value_info("t", 1, [2]))
    for name, array in ARRAYS.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return bytes(proto.SerializeToString(deterministic=True))


def test_split_and_join_give_the_very_bytes_of_onnx() -> None:
    data = example()
    proto, arrays = onnxfile.split(data)
    assert onnxfile.join(proto, arrays) == data
    assert not proto.graph.initializer
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
    assert not arrays["f32"].flags.owndata  # a view of the file


def test_values_that_are_not_raw_are_read_too() -> None:
    proto = onnx.ModelProto.FromString(example())
    proto.graph.initializer.append(helper.make_tensor("typed", 1, [2], [1.5, 2.5]))
    _, arrays = onnxfile.split(proto.SerializeToString())
    assert arrays["typed"].tolist() == [1.5, 2.5]


def test_transposed_and_sliced_arrays_are_written_as_they_read() -> None:
    proto, arrays = onnxfile.split(example())
    arrays["f32"] = arrays["f32"].T[::-1]
    _, again = onnxfile.split(onnxfile.join(proto, arrays))
    assert again["f32"].tolist() == [[2, 5], [1, 4], [0, 3]]


def code_of(data: bytes) -> str | None:
    try:
        OnnxModel(data).split()
    except ConversionError as error:
        return error.code
    return None


def test_damage_is_our_error_and_nothing_else() -> None:
    data = example()
    random = np.random.default_rng(0)
    inputs = [data[:end] for end in range(1, len(data), 3)]
    for _ in range(1500):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), random.integers(1, 5)):
            damaged[position] = random.integers(0, 256)
        inputs.append(bytes(damaged))
    inputs += [random.bytes(40) for _ in range(500)] + [b"\xff" * 30, b"\x3a\xff\xff\xff\xff\x0f"]
    codes = [code_of(item) for item in inputs]
    assert set(codes) <= {None, "unreadable-onnx"}
    assert codes.count("unreadable-onnx") > 1000


def test_weights_in_another_file_are_refused() -> None:
    proto = onnx.ModelProto.FromString(example())
    tensor = proto.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="/etc/passwd"))
    with pytest.raises(ConversionError, match="another file"):
        onnxfile.split(proto.SerializeToString())
