"""``preprocessor_config.json``: the preprocessing of a bundle as transformers and transformers.js read it.

Both resize to a fixed size, transformers with Pillow's filters, then compute ``(x * factor - mean) / std`` in RGB.
Whatever else the preprocessing of a bundle does is refused by name, since a file that nearly says it gives wrong
answers. ``scripts/check_hub.py`` compares the pixels of transformers and of our runtime. Transparent pictures are
outside of this: transformers lays them over white since version 5, transformers.js drops their alpha, and no key of the
file says which.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.resample import ANTIALIASES

PREPROCESSOR = "preprocessor_config.json"
"""The path of the file in a bundle, which transformers fixes."""
FILTERS = {"nearest": Image.Resampling.NEAREST, **ANTIALIASES}
_HALF, _TORCH_MEAN, _TORCH_STD = (0.5,) * 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def preprocessor_config(manifest: Manifest) -> dict[str, Any]:
    """Return the object of the file for the first variant of a bundle.

    A model file of uint8 input takes the resized pixels as they are; its ``do_rescale`` and ``do_normalize`` are false.
    ``UsageError`` ``preprocessor-unsaid``: transformers has no such step, which the message names.
    """
    form = manifest.form
    if not isinstance(form, Preprocess):
        raise _unsaid("the model has another input than one picture")
    if not manifest.variants[0].inputs:
        raise _unsaid("a manifest below schema 5 does not say whether the model file takes uint8 or float32")
    if form.channels != 3:
        raise _unsaid("the model takes gray pictures, and transformers makes RGB")
    if form.sizing.resize != "squash":
        raise _unsaid(f"the resize {form.sizing.resize!r} rounds to other pixels than transformers' crop and pad")
    if form.sizing.resample not in FILTERS:
        raise _unsaid(f"the filter {form.sizing.resample!r} is TensorFlow's, and transformers has Pillow's")
    if form.background != "drop":
        raise _unsaid(f"transparent pictures are laid over {form.background}, and transformers.js drops their alpha")
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": form.height, "width": form.width},
        "resample": int(FILTERS[form.sizing.resample]),
        **(_AS_THEY_ARE if manifest.variants[0].inputs[0].dtype == "uint8" else _scaling(form)),
    }


_AS_THEY_ARE: dict[str, Any] = {"do_rescale": False, "do_normalize": False}


def _scaling(form: Preprocess) -> dict[str, Any]:
    if form.mode == "none":
        return _AS_THEY_ARE
    if form.mode == "caffe" or (form.scaling is not None and form.scaling.order == "bgr"):
        raise _unsaid("the model takes BGR, and transformers makes RGB")
    factor, mean, std = 1 / 255, _HALF, _HALF
    if form.mode == "torch":
        mean, std = _TORCH_MEAN, _TORCH_STD
    elif form.scaling is not None:
        factor, mean, std = form.scaling.scale, form.scaling.mean, form.scaling.std  # type: ignore[assignment]
    return {
        "do_rescale": True,
        "rescale_factor": factor,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


def _unsaid(why: str) -> UsageError:
    return UsageError(
        f"{PREPROCESSOR} cannot say this preprocessing: {why}",
        hint="use xxdeploy's own runtime, which reads manifest.json, or write the steps into your program",
        code="preprocessor-unsaid",
    )
