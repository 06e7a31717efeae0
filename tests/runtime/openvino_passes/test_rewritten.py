"""All passes in a row: a copy is rewritten, and what fails leaves the model as it was read."""

from __future__ import annotations

import logging

import pytest
from ovgraphs import depthwise_weights, read

from xxdeploy.runtime import openvino_passes
from xxdeploy.runtime.openvino_passes import rewritten

BODY = """
 r = Clip(x, z, top)  d = DequantizeLinear(r, s, z)  w = DequantizeLinear(weights, ws, wz)
 y = Conv<kernel_shape = [3, 3], group = 8>(d, w)
"""


def test_a_copy_is_rewritten() -> None:
    model = read(BODY, weights=depthwise_weights())
    other = rewritten(model)
    assert any(each.get_type_name() == "Maximum" for each in model.get_ordered_ops())
    assert not any(each.get_type_name() == "Maximum" for each in other.get_ordered_ops())


def test_a_pass_that_fails(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def breaks(model: object) -> int:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(openvino_passes, "PASSES", (breaks,))
    model = read(BODY, weights=depthwise_weights())
    with caplog.at_level(logging.WARNING):
        assert rewritten(model) is model
    assert "no such operator" in caplog.text
