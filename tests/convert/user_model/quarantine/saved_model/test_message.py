from __future__ import annotations

import pytest

from xxdeploy.convert.user_model.quarantine.saved_model import message

pytest.importorskip("tensorflow")


def test_fields_are_those_of_the_generated_classes() -> None:
    from tensorflow.core.framework.attr_value_pb2 import AttrValue
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    node = NodeDef(name="a", op="Conv2D", input=["b", "^c"])
    node.attr["padding"].s = b"SAME"
    node.attr["strides"].CopyFrom(AttrValue(list=AttrValue.ListValue(i=[1, 2, -3])))
    node.attr["shape"].shape.dim.add(size=-1)
    node.attr["shape"].shape.dim.add(size=7)
    fields = message.read(memoryview(node.SerializeToString()))
    assert (message.text(fields, 1), message.text(fields, 2), message.texts(fields, 3)) == ("a", "Conv2D", ["b", "^c"])
    attributes = message.mapping(fields, 5)
    assert message.integers(message.inner(message.read(attributes["strides"]), 1), 3) == [1, 2, -3]
    assert message.shape_of(message.inner(message.read(attributes["shape"]), 7)) == [None, 7]


@pytest.mark.parametrize("damaged", [b"\x0a", b"\x0a\x05ab", b"\x0b", b"\xff" * 12, b"\x0d\x00"])
def test_what_is_no_message(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"protobuf|field|wire"):
        message.read(memoryview(damaged))


def test_too_many_fields() -> None:
    with pytest.raises(message.TooManyFieldsError):
        message.read(memoryview(b"\x0a\x00" * (message.MAX_FIELDS + 1)))
