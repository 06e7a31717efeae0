"""The INT8 sensitivity of a network's layers: measured on calibration images, or read from an INT8 bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from xxdeploy.bundle.folder import check_bundle
from xxdeploy.datasets import CalibrationRecipe, ImageSet, crops_of, open_images
from xxdeploy.datasets.images import CALIBRATION_BATCH, batch_that_fits
from xxdeploy.errors import UsageError
from xxdeploy.exporter.inputs import calibration_recipe
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import LayerNoise, OnProgress, Progress, noise_from_json
from xxdeploy.runtime.bundle.files import open_bundle, read_entry
from xxdeploy.runtime.bundle.manifest import FileEntry, Manifest, Variant
from xxdeploy.runtime.engines.select import LITERT
from xxdeploy.runtime.image.preprocess import Preprocess, Sizing

RECORD = "sensitivity.json"
"""The file of an INT8 bundle with ``results.noise_to_json`` of its layers."""

SCHEME = "static-w8c-a8"
CALIBRATED, MEASURED = 100, 32
"""Most images for the ranges, and for the noise, where each position of each image is a sample."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The layers of a network, the worst first, and how they were measured (None if the record does not say)."""

    scheme: str
    method: str | None
    calibrated_images: int | None
    measured_images: int | None
    layers: tuple[LayerNoise, ...]


def find_sensitivity(
    path: Path,
    calibration: Path | None = None,
    *,
    samples: int | None = None,
    method: str | None = None,
    preprocess: str | None = None,
    sizing: Sizing | None = None,
    on_progress: OnProgress | None = None,
) -> Sensitivity:
    """Return the record of an INT8 bundle; or calibrate a float network, quantize it, and measure each layer.

    Quantization is without equalization, bias correction or tuned rounding, to show the layers that need them.

    ``path`` is a bundle with a float variant, or a float .onnx file with one image input (batch, height, width,
    channels); ``preprocess`` and ``sizing`` (None: as the recipe resizes, else squash) are for the file, since a bundle
    has its own. ``calibration`` is a folder of images, labels or not, or a recipe; None for the record. ``samples``
    None is the recipe's number, else at most 100, of which at most 32 measure the noise. ``method`` is the calibrator;
    None: the recipe's, else the default of an export.

    ``UsageError``: those of ``calibration_recipe``, ``open_images`` and ``calibrate``; ``calibration-missing``;
    ``no-sensitivity``: an INT8 bundle without a record, or with images; ``preprocess-missing`` and ``no-image-input``:
    of an .onnx file; ``sensitivity-options``: ``preprocess`` or ``sizing`` for a bundle. ``BundleError``,
    ``ConversionError``: as ``check_bundle``, ``calibrate``, ``layer_noise``; ``damaged-sensitivity``.
    """
    manifest = check_bundle(path) if path.is_dir() else None
    if calibration is None:
        recorded = None if manifest is None else _recorded(path, manifest)
        if recorded is None:
            raise UsageError(
                "--sensitivity needs images to measure the layers, and none are given",
                hint="add --calibration FOLDER with a few dozen images like those in use (no labels needed)",
                code="calibration-missing",
            )
        return recorded
    recipe = calibration_recipe(calibration)
    if manifest is not None:
        model, how = _from_bundle(path, manifest, given=bool(preprocess or sizing))
    else:
        model, how = _from_file(path, preprocess, sizing or Sizing(recipe.resize or "squash"))
    images = _drawn(recipe, samples if samples is not None else recipe.samples)
    return _measured(model, how, images, method or recipe.method, on_progress or (lambda _: None))


def _drawn(recipe: CalibrationRecipe, wanted: int | None) -> ImageSet:
    """Return ``wanted`` images or crops of the recipe's folder; None: at most ``CALIBRATED``."""
    images = open_images(recipe.folder)
    count = min(CALIBRATED, len(images)) if wanted is None else wanted
    if recipe.smallest_crop is not None:
        return crops_of(images, count, recipe.smallest_crop, recipe.seed)
    return images.sample(count, recipe.seed)


def _recorded(path: Path, manifest: Manifest) -> Sensitivity | None:
    """Return the record of a bundle, None if it has a float network to measure instead."""
    entry = _entry(manifest, RECORD)
    if entry is not None:
        # The variant for ARM, with the same integers, is listed before the one for all processors.
        schemes = [SCHEME, *(variant.scheme for variant in manifest.variants if variant.precision == "int8")]
        layers = noise_from_json(read_entry(open_bundle(path)[0], entry))
        return Sensitivity(schemes[-1], None, None, None, layers)
    if _float_variant(manifest) is None:
        raise _no_float_network(manifest)
    return None


def _measured(
    model: OnnxModel, how: Preprocess, images: ImageSet, method: str | None, report: OnProgress
) -> Sensitivity:
    with extra("export"):
        from xxdeploy.exporter.inputs import DEFAULT_METHOD
        from xxdeploy.quantize import calibrate, scheme
        from xxdeploy.quantize.measure.sensitivity import layer_noise

    method, total = method or DEFAULT_METHOD, len(images)
    batch = batch_that_fits(CALIBRATION_BATCH, how.height * how.width)
    ranges = calibrate(
        model,
        lambda: images.batches(how, batch),
        method=method,
        data_digest=images.digest,
        on_progress=lambda progress: report(replace(progress, total=total)),
    )
    measured = min(MEASURED, total)
    few = images.sample(measured)
    layers = layer_noise(
        model,
        ranges,
        scheme(SCHEME),
        lambda: few.batches(how, batch),
        on_progress=lambda progress: report(Progress(progress.step, progress.done, measured)),
    )
    return Sensitivity(SCHEME, method, total, measured, layers)


def _from_bundle(path: Path, manifest: Manifest, *, given: bool) -> tuple[OnnxModel, Preprocess]:
    if given:
        raise UsageError(
            "--preprocess, --resize and --resample are for an .onnx file, and a bundle has its own preprocessing",
            hint="leave --preprocess, --resize and --resample out",
            code="sensitivity-options",
        )
    variant = _float_variant(manifest)
    entry = None if variant is None else _entry(manifest, variant.model)
    if entry is None:
        raise _no_float_network(manifest)
    with extra("export"):
        from xxdeploy.lowering.embed_topk import remove_topk
    return remove_topk(OnnxModel(read_entry(open_bundle(path)[0], entry))), manifest.picture


def _float_variant(manifest: Manifest) -> Variant | None:
    floats = (variant for variant in manifest.variants if variant.precision == "fp32")
    return next((variant for variant in floats if LITERT not in variant.requires), None)


def _entry(manifest: Manifest, name: str) -> FileEntry | None:
    return next((entry for entry in manifest.files if entry.path == name), None)


def _no_float_network(manifest: Manifest) -> UsageError:
    if _entry(manifest, RECORD) is not None:
        hint = "leave --calibration out: the bundle contains the measurement of its export"
    else:
        name = manifest.name.removesuffix("-int8")
        hint = f"export {name} without --int8, and inspect that bundle with --calibration FOLDER"
    return UsageError(f"{manifest.name} has no float network to compare INT8 with", hint=hint, code="no-sensitivity")


def _from_file(path: Path, preprocess: str | None, sizing: Sizing) -> tuple[OnnxModel, Preprocess]:
    if preprocess is None:
        raise UsageError(
            f"the preprocessing of {path} is unknown",
            hint="add --preprocess tf (-1..1), caffe, torch or none (0..255), as in the training",
            code="preprocess-missing",
        )
    model = OnnxModel.read(path)
    proto, arrays = model.split()
    inputs = [value for value in proto.graph.input if value.name not in arrays]
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or min(shapes[0][1:]) < 1 or shapes[0][3] not in (1, 3):
        raise UsageError(
            f"the inputs of {path} are {shapes} (0: not fixed), not one (batch, height, width, channels)",
            hint="export it with xxdeploy, or transpose its input to (batch, height, width, channels)",
            code="no-image-input",
        )
    _, height, width, channels = shapes[0]
    return model, Preprocess(height, width, channels, preprocess, sizing)
