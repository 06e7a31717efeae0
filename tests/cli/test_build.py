from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.cli import main
from xxdeploy.cli.build import EngineRequest
from xxdeploy.engine import Batch, EngineOptions
from xxdeploy.errors import UsageError

Capture = pytest.CaptureFixture[str]


def test_a_request_becomes_the_options_of_the_builder() -> None:
    request = EngineRequest(gpu="sm86,sm89", batch="1,4,16", workspace=256, any_version=True, strip=True, refit=True)
    assert request.options() == EngineOptions(
        gpus=("sm86", "sm89"), batch=Batch(1, 4, 16), workspace=256 << 20, any_version=True, strip=True, refit=True
    )
    assert EngineRequest("tensorrt", any_gpu=True).options() == EngineOptions("tensorrt", any_gpu=True)
    with pytest.raises(UsageError):
        EngineRequest(batch="4,1").options()


def test_the_options_are_checked_before_the_bundle_is_opened(tmp_path: Path, capsys: Capture) -> None:
    assert main(["build", str(tmp_path / "absent"), "--target", "tensorrt", "--gpu", "sm86"]) == 2
    assert capsys.readouterr().err.startswith("error[gpu-without-rtx]: ")
