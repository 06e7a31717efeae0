"""``preprocessor_config.json`` says the steps of the runtime, or names the step that it cannot say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_bundle
from described import with_input
from PIL import Image

from xxdeploy.report.preprocessor import FILTERS, preprocessor_config, unsaid
from xxdeploy.runtime.image.preprocess import Preprocess, Sizing
from xxdeploy.runtime.image.scaling import Scaling, named_scaling


def as_the_file_says(config: dict[str, Any], picture: Image.Image) -> Any:
    """The steps of transformers' ViTImageProcessor; scripts/check_hub.py runs the processor itself."""
    assert config["do_convert_rgb"]
    assert config["do_resize"]
    size = config["size"]["width"], config["size"]["height"]
    x = np.asarray(picture.convert("RGB").resize(size, config["resample"])).astype(np.float64)
    if config["do_rescale"]:
        x *= config["rescale_factor"]
    if config["do_normalize"]:
        x = (x - config["image_mean"]) / config["image_std"]
    return x


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize(
    ("mode", "scaling"),
    [
        ("tf", None),
        ("torch", None),
        ("none", None),
        ("custom", named_scaling("0..1", 3)),
        ("custom", Scaling(1 / 255, (0.1, 0.2, 0.3), (0.5, 0.4, 0.3))),
    ],
)
def test_it_makes_the_numbers_of_the_runtime(resample: str, mode: str, scaling: Scaling | None) -> None:
    form = Preprocess(12, 9, 3, mode, Sizing("squash", resample), scaling)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 20, 3), np.uint8))
    expected = form.batch([picture])[0]
    made = as_the_file_says(preprocessor_config(with_input(form)), picture)
    np.testing.assert_allclose(made, expected, atol=1e-6 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("mode", ["tf", "caffe", "none"])
def test_a_file_of_uint8_takes_the_pixels_as_they_are(mode: str) -> None:
    form = Preprocess(12, 9, 3, mode)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 20, 3), np.uint8))
    made = as_the_file_says(preprocessor_config(with_input(form, "uint8")), picture)
    np.testing.assert_array_equal(made, form.image(picture))


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (Preprocess(8, 8, 1), "gray"),
        (Preprocess(8, 8, 3, "caffe"), "BGR"),
        (Preprocess(8, 8, 3, "custom", scaling=named_scaling("0..1-bgr", 3)), "BGR"),
        (Preprocess(8, 8, sizing=Sizing("crop")), "'crop'"),
        (Preprocess(8, 8, sizing=Sizing("pad")), "'pad'"),
        (Preprocess(8, 8, sizing=Sizing("fit")), "'fit'"),
        (Preprocess(8, 8, sizing=Sizing("squash", "bilinear")), "'bilinear'"),
        (Preprocess(8, 8, sizing=Sizing("squash", "area")), "'area'"),
        (Preprocess(8, 8, background="white"), "over white"),
    ],
)
def test_a_step_that_it_cannot_say_is_named(form: Preprocess, why: str) -> None:
    assert why in unsaid(with_input(form))
    with pytest.raises(ValueError, match=why):
        preprocessor_config(with_input(form))


def test_an_old_manifest_does_not_say_what_the_file_takes() -> None:
    assert "schema 5" in unsaid(tiny_bundle.parts_and_manifest()[1])
