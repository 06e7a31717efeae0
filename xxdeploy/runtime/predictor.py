"""``load`` a bundle, get a ``Runtime``, ask it about pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.errors import BundleError, EngineError, UsageError
from xxdeploy.files import cache_folder
from xxdeploy.runtime.bundle.files import check_entry, open_signed, read_entry
from xxdeploy.runtime.bundle.labels import labels_from_text
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.bundle.signature import KeyLike, trust
from xxdeploy.runtime.cpu import cpu_features
from xxdeploy.runtime.engines.select import PLANS, Settings, installed_engines, open_session
from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.image.batch import batch_for
from xxdeploy.runtime.image.preprocess import MAX_PIXELS, ImageLike
from xxdeploy.runtime.postprocess import Prediction, top_predictions
from xxdeploy.runtime.selftest import MAX_BATCH, SelfTest, run_all, run_selftest
from xxdeploy.runtime.tune_store import Choice, stored_choice

_log = logging.getLogger(__name__)

DEVICE_PIXELS = 16_000_000
"""4608 x 3456: decoded, turned and converted it takes 192 MB at most, so that no picture takes a process to 300 MB."""

_ONE = (np.ndarray, str, bytes, Image.Image, os.PathLike)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A loaded bundle. Holds no state between calls; several threads may call it at once.

    ``variant`` is the model file that was picked for this processor; ``version`` what the bundle was signed as, None
    where no key was given; ``settings`` those of the engine, None where a session was given;
    ``max_pixels`` the largest picture that is decoded.
    """

    root: Path
    manifest: Manifest
    variant: Variant
    session: Session
    labels: tuple[str, ...]
    version: int | None = None
    settings: Settings | None = None
    max_pixels: int = DEVICE_PIXELS

    @overload
    def predict(self, images: ImageLike, top: int = 5) -> tuple[Prediction, ...]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Sequence[ImageLike], top: int = 5) -> tuple[tuple[Prediction, ...], ...]: ...
    def predict(
        self, images: ImageLike | Sequence[ImageLike], top: int = 5
    ) -> tuple[Prediction, ...] | tuple[tuple[Prediction, ...], ...]:
        """Name the ``top`` most probable classes, best first: of one image, or of each image of a list.

        Raises
        ------
        UsageError
            ``wrong-task`` for a bundle of features, ``top-invalid``, ``no-images``, and those of ``Preprocess.image``.
        EngineError
            The engine failed (``engine-run``) or gave no probabilities (``engine-output``).
        """
        rows = self.probabilities(images)
        if _is_one(images):
            return top_predictions(rows[0], self.labels, top)
        return tuple(top_predictions(row, self.labels, top) for row in rows)

    def probabilities(self, images: ImageLike | Sequence[ImageLike]) -> NDArray[np.float32]:
        """Return all classes' probabilities, (n, classes) float32; n is 1 for one image. Errors as ``predict``."""
        self._check_task("classification", "features()")
        return self._run(images)

    def features(self, images: ImageLike | Sequence[ImageLike]) -> NDArray[np.float32]:
        """Return the features, (n, ...) float32, of a bundle exported with ``--no-top``. Errors as ``predict``."""
        self._check_task("features", "predict() or probabilities()")
        return self._run(images)

    def run(self, images: ImageLike | Sequence[ImageLike]) -> dict[str, NDArray[np.float32]]:
        """Return every output by its name, (n, ...) float32: of a model with several, not only the one to predict with.

        n is 1 for one image. Errors as ``predict``.
        """
        batches = [self._run_all(chunk) for chunk in _chunks(images)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in self.manifest.output_names}

    def selftest(self) -> SelfTest:
        """Run the golden pairs. ``VerificationError`` ``golden-mismatch`` if this device computes something else."""
        return run_selftest(self.session, self.root, self.manifest, self.variant)

    def _check_task(self, task: str, instead: str) -> None:
        if self.manifest.task != task:
            raise UsageError(
                f"{self.manifest.name} is a bundle for {self.manifest.task}, not for {task}",
                hint=f"call {instead}",
                code="wrong-task",
            )

    def _run(self, images: ImageLike | Sequence[ImageLike]) -> NDArray[np.float32]:
        if _is_one(images):
            return self._answer((images,))  # type: ignore[arg-type]
        rows = [self._answer(chunk) for chunk in _chunks(images)]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _answer(self, sources: Sequence[ImageLike]) -> NDArray[np.float32]:
        """Return the output to predict with. A small network takes less time than what stands here: it is short."""
        output, manifest = self.session.run(self._batch(sources)), self.manifest
        self._check(manifest.output_name, output, len(sources), manifest.classes)
        return output

    def _run_all(self, sources: Sequence[ImageLike]) -> dict[str, NDArray[np.float32]]:
        outputs, manifest = run_all(self.session, self.manifest, self._batch(sources)), self.manifest
        classes = {output.name: output.classes for output in manifest.more_outputs}
        classes[manifest.output_name] = manifest.classes
        for name, output in outputs.items():
            self._check(name, output, len(sources), classes[name])
        return outputs

    def _batch(self, sources: Sequence[ImageLike]) -> NDArray[Any]:
        """Return what the engine takes: pictures as they are, or scaled."""
        preprocess = self.manifest.preprocess
        return batch_for(self.session, preprocess, preprocess.pixels(sources, max_pixels=self.max_pixels))

    def _check(self, name: str, output: NDArray[np.float32], count: int, classes: int | None) -> None:
        """Raise ``EngineError`` ``engine-output`` unless an output fits the manifest and ``count`` images."""
        right = output.shape == (count, classes) if classes else output.ndim >= 2 and len(output) == count
        if right and np.isfinite(output).all():
            return
        raise EngineError(
            f"{self.session.name} gave {name} of shape {output.shape}, or values that are no numbers, "
            f"for {count} images of {classes} classes",
            hint="run the self-test: load(..., selftest=True)",
            code="engine-output",
        )


def load(
    bundle: str | os.PathLike[str],
    *,
    session: Session | None = None,
    check: bool = True,
    selftest: bool = False,
    threads: int | None = None,
    variant: str | None = None,
    key: KeyLike | None = None,
    min_version: int = 0,
    engine: str | None = None,
    tune: bool = False,
    tuned: bool = True,
    max_pixels: int = DEVICE_PIXELS,
) -> Runtime:
    """Open a bundle and make it ready to predict.

    Parameters
    ----------
    bundle
        The folder.
    session
        Another engine (or a fake) in place of ONNX Runtime; the model file is then hashed, not parsed.
    check
        Compare every listed file with its hash before anything parses one of them. False reads only
        what is needed and trusts it: for a file system that is verified already.
    selftest
        Run the golden pairs, too.
    threads
        As in ``OrtSession``.
    variant
        Name of the variant; None picks the first whose required features this processor has.
    key
        Public key (a PEM file, or its bytes) whose signature the bundle must carry, checked before anything is parsed.
        One file may hold several keys. Needs ``xxdeploy[sign]``.
    min_version
        Refuse a bundle that was signed as an older version.
    engine
        ``onnxruntime`` (the default) or ``openvino``; on a GPU ``onnxruntime-cuda``, ``onnxruntime-tensorrt``,
        ``onnxruntime-tensorrt-rtx``, and ``tensorrt`` or ``tensorrt-rtx`` for the engine that the bundle carries or
        that ``xxdeploy build`` wrote beside it. Imported only if it is chosen.
    tune
        If nothing was found yet for this bundle on this device with these engines, measure what is fastest, which
        takes about half a minute, and keep it (:func:`xxdeploy.runtime.tune.tune`).
    tuned
        False ignores what ``tune`` found here. So does giving an engine, threads, a variant or a session.
    max_pixels
        Refuse larger pictures before they are decoded: a file of a few kilobytes can hold a hundred million pixels,
        which take up to twelve bytes each.

    Raises
    ------
    BundleError
        It is damaged, incomplete, hostile or of another version; ``no-variant``, ``bundle-signature``;
        ``signature-*`` where a key is given.
    EngineError, MissingDependencyError, VerificationError
        As ``OrtSession`` and ``Runtime.selftest``.
    UsageError
        ``unknown-variant``, ``threads-invalid``; ``key-invalid``, ``min-version-without-key``, ``version-invalid``.
    """
    asked = trust(key, min_version)
    if asked is not None and not check:
        raise UsageError(
            "check=False with a key would trust files that nobody has compared with what was signed",
            hint="leave check=False out",
            code="key-without-check",
        )
    root, manifest, version = open_signed(bundle, asked)
    settings = Settings(engine or "onnxruntime", threads)
    if tuned and session is None and (engine, threads, variant) == (None, None, None):
        choice = _choice(root, manifest, tune=tune)
        if choice is not None:
            settings, variant = choice.settings, choice.variant
    picked = pick_variant(manifest, cpu_features()) if variant is None else _named_variant(manifest, variant)
    _log.debug("bundle %s: variant %s on %s", manifest.name, picked.name, settings)
    wanted = {manifest.labels} if session is not None else {picked.model, manifest.labels}
    held: dict[str | None, bytes] = {}
    total = sum(entry.size for entry in manifest.files)
    for entry in manifest.files:
        if entry.path in wanted:
            held[entry.path] = read_entry(root, entry, check=check, total=total)
        elif check:
            check_entry(root, entry, total=total)
    if manifest.labels is None:
        labels = tuple(str(index) for index in range(manifest.classes))
    else:
        labels = labels_from_text(held[manifest.labels], manifest.classes)
    used = settings if session is None else None
    if session is None:
        if settings.engine in PLANS:
            from xxdeploy.runtime.engines.trt import TrtSession

            session = TrtSession.from_bundle(root, target=settings.engine, key=key, min_version=min_version)
        else:
            # What was compiled earlier is not what was signed.
            cache = cache_folder("openvino") if asked is None else None
            session = open_session(held.pop(picked.model), manifest, picked, settings, cache=cache)
    runtime = Runtime(root, manifest, picked, session, labels, version, used, min(max_pixels, MAX_PIXELS))
    if selftest:
        runtime.selftest()
    return runtime


def pick_variant(manifest: Manifest, features: frozenset[str]) -> Variant:
    """Return the first variant all of whose required features are there (``BundleError`` ``no-variant``)."""
    for variant in manifest.variants:
        if features.issuperset(variant.requires):
            return variant
    known = ", ".join(sorted(features)) or "nothing known"
    raise BundleError(
        f"no variant of {manifest.name} is for this processor (it has: {known})",
        hint="export again with a portable variant",
        code="no-variant",
    )


def _named_variant(manifest: Manifest, name: str) -> Variant:
    for variant in manifest.variants:
        if variant.name == name:
            return variant
    raise UsageError(
        f"{manifest.name} has no variant {name!r}",
        hint=f"it has {', '.join(variant.name for variant in manifest.variants)}",
        code="unknown-variant",
    )


def _choice(root: Path, manifest: Manifest, *, tune: bool) -> Choice | None:
    """Return what was found to be fastest here; with ``tune``, find it if it is not known for the engines of today."""
    if not tune:
        return stored_choice(manifest)
    choice = stored_choice(manifest, engines=installed_engines())
    if choice is None:
        from xxdeploy.runtime.tune import tune_opened

        choice = tune_opened(root, manifest).choice
    return choice


def _chunks(images: ImageLike | Sequence[ImageLike]) -> Iterator[Sequence[ImageLike]]:
    """Yield the images in batches of ``MAX_BATCH`` at most; ``UsageError`` ``no-images`` if there is none."""
    sources: Sequence[ImageLike] = [images] if _is_one(images) else images  # type: ignore[list-item,assignment]
    if not len(sources):
        raise UsageError("there is no image to work on", hint="give at least one image", code="no-images")
    return (sources[start : start + MAX_BATCH] for start in range(0, len(sources), MAX_BATCH))


def _is_one(images: ImageLike | Sequence[ImageLike]) -> bool:
    """Tell one image from a list; anything that is neither is refused as an image, which says what it must be."""
    return isinstance(images, _ONE) or not isinstance(images, Sequence)
