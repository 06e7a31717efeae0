"""``preprocessor_config.json``: the preprocessing of a bundle as transformers and transformers.js read it.

Both resize to a fixed size, transformers with Pillow's filters, then compute ``(x * factor - mean) / std`` in RGB.
Whatever else the preprocessing of a bundle does is named by ``unsaid``, since a file that nearly says it gives wrong
answers. ``scripts/check_hub.py`` compares the pixels of transformers and of our runtime. Transparent pictures are
outside of this: transformers lays them over white since version 5, transformers.js drops their alpha, and no key of the
file says which.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.resample import ANTIALIASES

PREPROCESSOR = "preprocessor_config.json"
"""The path of the file in a bundle, which transformers fixes."""
FILTERS = {"nearest": Image.Resampling.NEAREST, **ANTIALIASES}
_HALF, _TORCH_MEAN, _TORCH_STD = (0.5,) * 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def unsaid(manifest: Manifest) -> str:
    """Return the step of a bundle's preprocessing that transformers does not have; empty if it has all."""
    form = manifest.form
    if not isinstance(form, Preprocess):
        return "the model has another input than one picture"
    if not manifest.variants[0].inputs:
        return "a manifest below schema 5 does not say whether the model file takes uint8 or float32"
    if form.channels != 3:
        return "the model takes gray pictures, and transformers makes RGB"
    if form.sizing.resize != "squash":
        return f"the resize {form.sizing.resize!r} rounds to other pixels than transformers' crop and pad"
    if form.sizing.resample not in FILTERS:
        return f"the filter {form.sizing.resample!r} is TensorFlow's, and transformers has Pillow's"
    if form.background != "drop":
        return f"transparent pictures are laid over {form.background}, and transformers.js drops their alpha"
    if not _takes_pixels(manifest) and (form.mode == "caffe" or (form.scaling and form.scaling.order == "bgr")):
        return "the model takes BGR, and transformers makes RGB"
    return ""


def preprocessor_config(manifest: Manifest) -> dict[str, Any]:
    """Return the object of the file for the first variant of a bundle.

    A model file of uint8 input takes the resized pixels as they are; its ``do_rescale`` and ``do_normalize`` are false.
    ``ValueError``: ``unsaid`` has a reason.
    """
    form = manifest.form
    if (why := unsaid(manifest)) or not isinstance(form, Preprocess):
        raise ValueError(why)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": form.height, "width": form.width},
        "resample": int(FILTERS[form.sizing.resample]),
        **(_AS_THEY_ARE if _takes_pixels(manifest) or form.mode == "none" else _scaling(form)),
    }


_AS_THEY_ARE: dict[str, Any] = {"do_rescale": False, "do_normalize": False}


def _takes_pixels(manifest: Manifest) -> bool:
    """Tell whether the first model file takes the resized pixels as they are."""
    return manifest.variants[0].inputs[0].dtype == "uint8"


def _scaling(form: Preprocess) -> dict[str, Any]:
    factor: float = 1 / 255
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF
    if form.mode == "torch":
        mean, std = _TORCH_MEAN, _TORCH_STD
    elif form.scaling is not None:
        factor, mean, std = form.scaling.scale, form.scaling.mean, form.scaling.std
    return {
        "do_rescale": True,
        "rescale_factor": factor,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
