"""All passes in a row: and what fails leaves the model as it was read."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import tiny_bundle
from ovgraphs import depthwise_weights, read

from xxdeploy.runtime import openvino_passes
from xxdeploy.runtime.openvino import OpenVinoSession
from xxdeploy.runtime.openvino_passes import rewrite

BODY = """
 r = Clip(x, z, top)  d = DequantizeLinear(r, s, z)  w = DequantizeLinear(weights, ws, wz)
 y = Conv<kernel_shape = [3, 3], group = 8>(d, w)
"""


def maxima(model: Any) -> int:
    return sum(each.get_type_name() == "Maximum" for each in model.get_ordered_ops())


def test_every_pass_runs() -> None:
    model = read(BODY, weights=depthwise_weights())
    assert maxima(model) == 1
    assert rewrite(model)
    assert maxima(model) == 0


def test_a_pass_that_fails(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def breaks(model: Any) -> int:
        raise RuntimeError("no such operator")

    session = OpenVinoSession(tiny_bundle.model_bytes(), threads=1)
    monkeypatch.setattr(openvino_passes, "PASSES", (breaks,))
    with caplog.at_level(logging.WARNING):
        other = OpenVinoSession(tiny_bundle.model_bytes(), threads=1)
    assert "no such operator" in caplog.text
    batch = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    assert np.array_equal(session.run(batch), other.run(batch))
