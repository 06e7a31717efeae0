"""``load`` a bundle, get a ``Runtime``, ask it about pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeAlias, Unpack, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.cpu import cpu_features
from xxdeploy.errors import BundleError, EngineError, UsageError
from xxdeploy.files import cache_folder
from xxdeploy.runtime.answers import Prediction, Reading, picture_from, reading_from, top_predictions
from xxdeploy.runtime.bundle.contents import labels_from_text
from xxdeploy.runtime.bundle.files import check_entry, open_signed, read_entry
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.bundle.tasks import TASKS
from xxdeploy.runtime.engines.select import LITERT, PLANS, Settings, installed_engines, open_session
from xxdeploy.runtime.engines.session import ClosedSession, Session, batch_for, session_from
from xxdeploy.runtime.image.preprocess import ImageLike
from xxdeploy.runtime.inputs import Sample, in_words, is_one, parts_of
from xxdeploy.runtime.options import DEVICE_PIXELS, LoadKeywords, LoadOptions
from xxdeploy.runtime.selftest import MAX_BATCH, SelfTest, run_all, run_selftest
from xxdeploy.runtime.tune_store import Choice, stored_choice

_log = logging.getLogger(__name__)


Given: TypeAlias = ImageLike | NDArray[Any] | Mapping[str, Any]
"""A picture, an array, or for a model of several inputs one of these for each, by name."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A loaded bundle. Holds no state between calls; several threads may call it at once.

    In a forked process (gunicorn's ``preload_app``, ``multiprocessing`` on Linux) it reads the model file again at its
    first use and starts an engine of its own. It cannot be pickled: a spawned process calls ``load`` itself
    (``UsageError`` ``other-process``).

    A context manager that frees the engine at its end, see :meth:`close`::

        with load("exports/mobilenetv2-int8") as runtime:
            runtime.predict("cat.jpg")

    ``variant`` is the model file that was picked for this processor; ``version`` the version that the bundle was signed
    as, None where no key was given; ``settings`` are those of the engine, None where a session was given;
    ``max_pixels`` is the size of the largest picture that is decoded.
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
    def predict(self, images: Given, top: int = 5) -> tuple[Prediction, ...]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Sequence[Given], top: int = 5) -> tuple[tuple[Prediction, ...], ...]: ...
    def predict(
        self, images: Given | Sequence[Given], top: int = 5
    ) -> tuple[Prediction, ...] | tuple[tuple[Prediction, ...], ...]:
        """Name the ``top`` most probable classes, best first: of one image, or of each image of a list.

        Raises
        ------
        UsageError
            ``wrong-task`` for a bundle of another task, ``top-invalid``, ``no-images``, and those of
            ``Preprocess.image``.
        EngineError
            The engine failed (``engine-run``) or returned no probabilities (``engine-output``).
        """
        rows = self.probabilities(images)
        if is_one(self.manifest.form, images):
            return top_predictions(rows[0], self.labels, top)
        return tuple(top_predictions(row, self.labels, top) for row in rows)

    def probabilities(self, images: Given | Sequence[Given]) -> NDArray[np.float32]:
        """Return all classes' probabilities, (n, classes) float32; n is 1 for one image. Errors as ``predict``."""
        self._check_task("classification")
        return self._run(images)

    def features(self, images: Given | Sequence[Given]) -> NDArray[np.float32]:
        """Return the features, (n, ...) float32, of a bundle exported with ``--no-top``. Errors as ``predict``."""
        self._check_task("features")
        return self._run(images)

    def values(self, images: Given | Sequence[Given]) -> NDArray[np.float32]:
        """Return the values, (n, ...) float32 in the model's unit, of ``--task values``. Errors as ``predict``."""
        self._check_task("values")
        return self._run(images)

    @overload
    def image(self, images: Given) -> Image.Image: ...  # type: ignore[overload-overlap]
    @overload
    def image(self, images: Sequence[Given]) -> tuple[Image.Image, ...]: ...
    def image(self, images: Given | Sequence[Given]) -> Image.Image | tuple[Image.Image, ...]:
        """Return the picture that a bundle of ``--task image`` makes of one picture, or of each of a list.

        It has the size of the model's output and is gray (mode ``L``), ``RGB``, or a mask of classes with a palette
        (``P``): ``np.asarray(mask)`` gives the class of each pixel, whose name is in ``labels``. Errors as ``predict``.
        """
        self._check_task("image")
        pictures = tuple(picture_from(output, self.manifest.output_range) for output in self._run(images))
        return pictures[0] if is_one(self.manifest.form, images) else pictures

    @overload
    def read(self, images: Given) -> Reading: ...  # type: ignore[overload-overlap]
    @overload
    def read(self, images: Sequence[Given]) -> tuple[Reading, ...]: ...
    def read(self, images: Given | Sequence[Given]) -> Reading | tuple[Reading, ...]:
        """Return the text on one picture, or on each of a list, with a bundle of ``--task sequence``.

        See :func:`~xxdeploy.runtime.answers.reading_from` for the decoding, and
        :class:`~xxdeploy.runtime.answers.Reading` for its probability. Errors as ``predict``.
        """
        self._check_task("sequence")
        blank = self.manifest.blank
        assert blank is not None  # the manifest has seen to it
        readings = tuple(reading_from(steps, self.labels, blank) for steps in self._run(images))
        return readings[0] if is_one(self.manifest.form, images) else readings

    def run(self, *images: Sample | Sequence[Sample]) -> dict[str, NDArray[np.float32]]:
        """Return every output of the model by its name, (n, ...) float32, not only the one to predict with.

        n is 1 for one image. A model of several inputs takes a mapping from their names, or its inputs one by one::

            runtime.run({"left": "a.png", "right": "b.png"})
            runtime.run("a.png", "b.png")

        Errors as ``predict``.
        """
        samples = images[0] if len(images) == 1 else images
        if len(images) != 1 and not self.manifest.more_inputs:
            raise UsageError(
                f"{self.manifest.name} has one input, and {len(images)} are given",
                hint="give a list of images",
                code="wrong-inputs",
            )
        batches = [self._run_all(chunk) for chunk in self._chunks(samples)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in self.manifest.output_names}

    def __str__(self) -> str:
        """Return three lines: the task, the input, and what runs it."""
        manifest = self.manifest
        classes = f", {manifest.classes} classes" if manifest.classes else ""
        parts = [part for _, part in parts_of(manifest.form)]
        named = (f"{name}: {in_words(part)}" for name, part in zip(manifest.input_names, parts, strict=True))
        inputs = f"inputs: {'; '.join(named)}" if manifest.more_inputs else f"input: {in_words(parts[0])}"
        return (
            f"{manifest.name}: {manifest.task}{classes}\n"
            f"{inputs}\n"
            f"runs {self.variant.model} ({self.variant.precision}) on {self.settings or self.session.name}"
        )

    def selftest(self) -> SelfTest:
        """Run the golden pairs. ``VerificationError`` ``golden-mismatch`` if this device computes other outputs."""
        return run_selftest(self.session, self.root, self.manifest, self.variant)

    def close(self) -> None:
        """Free the engine's memory, on a GPU the device's. Any later use is ``UsageError`` ``closed``."""
        self.session.close()
        object.__setattr__(self, "session", ClosedSession(self.session.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_task(self, task: str) -> None:
        if self.manifest.task != task:
            raise UsageError(
                f"{self.manifest.name} is a bundle for {self.manifest.task}, not for {task}",
                hint=f"call {TASKS[self.manifest.task].instead}",
                code="wrong-task",
            )

    def _run(self, images: Given | Sequence[Given]) -> NDArray[np.float32]:
        if is_one(self.manifest.form, images):
            return self._answer((images,))
        rows = [self._answer(chunk) for chunk in self._chunks(images)]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _chunks(self, images: Sample | Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        """Yield the images in batches of ``MAX_BATCH`` at most; ``UsageError`` ``no-images`` if there is none."""
        sources: Sequence[Sample] = [images] if is_one(self.manifest.form, images) else images
        if not len(sources):
            raise UsageError("there is no image to work on", hint="give at least one image", code="no-images")
        return (sources[start : start + MAX_BATCH] for start in range(0, len(sources), MAX_BATCH))

    def _answer(self, sources: Sequence[Sample]) -> NDArray[np.float32]:
        """Return the output to predict with. Keep this path minimal: it can cost more than a small network."""
        output, manifest = self.session.run(self._batch(sources)), self.manifest
        self._check(manifest.output_name, output, len(sources), manifest.task, manifest.classes)
        return output

    def _run_all(self, sources: Sequence[Sample]) -> dict[str, NDArray[np.float32]]:
        outputs, manifest = run_all(self.session, self.manifest, self._batch(sources)), self.manifest
        kinds = {output.name: (output.task, output.classes) for output in manifest.more_outputs}
        kinds[manifest.output_name] = manifest.task, manifest.classes
        for name, output in outputs.items():
            self._check(name, output, len(sources), *kinds[name])
        return outputs

    def _batch(self, sources: Sequence[Sample]) -> NDArray[Any]:
        """Return the engine's input: the pictures' bytes, or normalized ones."""
        preprocess = self.manifest.form
        return batch_for(self.session, preprocess, preprocess.pixels(sources, max_pixels=self.max_pixels))

    def _check(self, name: str, output: NDArray[np.float32], count: int, task: str, classes: int) -> None:
        """Raise ``EngineError`` ``engine-output`` unless an output fits the manifest and ``count`` images."""
        shape = output.shape
        if shape[:1] == (count,) and TASKS[task].fits(shape[1:], classes) and np.isfinite(output).all():
            return
        raise EngineError(
            f"{self.session.name} returned {name} of shape {shape}, or values that are no numbers, "
            f"for {count} images, the task {task} and {classes} classes",
            hint="run the self-test: load(..., selftest=True)",
            code="engine-output",
        )


def load(bundle: str | os.PathLike[str], **options: Unpack[LoadKeywords]) -> Runtime:
    """Open a bundle and make it ready to predict.

    Parameters
    ----------
    bundle
        The folder.
    engine : str or None
        ``onnxruntime`` (the default), ``openvino``, or ``litert`` for LiteRT files (the default if the bundle, or the
        variant, has no other); on a GPU
        ``onnxruntime-cuda``, ``onnxruntime-tensorrt``, ``onnxruntime-tensorrt-rtx``, and ``tensorrt`` or
        ``tensorrt-rtx`` for the engine that the bundle carries or that ``xxdeploy build`` wrote next to it (all GPU
        engines are experimental: never run on a card). Imported only if chosen.
    threads : int or None
        Threads inside one inference; None: one for each processor that this process may use, by its affinity, the
        quota of its container and ``OMP_NUM_THREADS`` (:mod:`xxdeploy.cores`).
    variant : str or None
        Name of the variant; None picks the first whose required features this processor has.
    tuning : str
        ``stored`` (the default): the engine, threads and variant that ``xxdeploy tune`` found for this bundle on this
        device, if it did. ``measure``: the same, and if nothing is stored for the installed engines, measure now, which
        takes about half a minute, and store it (:func:`xxdeploy.runtime.tune.tune`). ``off``: the defaults. A given
        engine, number of threads, variant or session turns tuning off.
    key : path, bytes or None
        Public key (a PEM file, or its bytes) whose signature the bundle must carry, checked before anything is parsed.
        One file may hold several keys. Needs ``xxdeploy[sign]``.
    min_version : int
        Refuse a bundle that was signed as an older version.
    check : bool
        Compare every listed file with its hash before anything parses one of them. False reads only the files that are
        needed and trusts them: for a file system that is verified already.
    selftest : bool
        Run the golden pairs, too.
    max_pixels : int
        Refuse larger pictures before they are decoded: a file of a few kilobytes can hold a hundred million pixels,
        which take 4 to 14 bytes each. Default: 64,000,000; on a device with little memory, take less.
    session : Session or None
        Another engine (or a fake with ``name`` and ``run``); the model file is then hashed, not parsed.

    Raises
    ------
    BundleError
        It is damaged, incomplete, hostile or of another version; ``no-variant``, ``bundle-signature``;
        ``signature-*`` where a key is given.
    EngineError, MissingDependencyError, VerificationError
        As the engine's session and ``Runtime.selftest``.
    UsageError
        ``unknown-variant``, ``unknown-engine``, ``threads-invalid``, ``tuning-invalid``, ``key-without-check``,
        ``key-invalid``, ``min-version-without-key``, ``version-invalid``; ``renamed-argument`` for ``tune`` or
        ``tuned``.
    TypeError
        An unknown keyword argument, or one of the wrong type.
    """
    asked = LoadOptions.of(dict(options))
    root, manifest, version = open_signed(bundle, asked.trust)
    choice = _choice(root, manifest, asked.tuning) if asked.may_be_tuned else None
    settings, name = (
        (asked.settings_for(manifest.variants), asked.variant) if choice is None else (choice.settings, choice.variant)
    )
    variant = pick_variant(manifest, cpu_features(), settings.engine) if name is None else named_variant(manifest, name)
    _log.debug("bundle %s: variant %s on %s", manifest.name, variant.name, settings)
    needs_model = asked.session is None and settings.engine not in PLANS
    held = _read_files(root, manifest, variant.model if needs_model else None, check=asked.check)
    if manifest.labels is None:
        labels = tuple(str(index) for index in range(manifest.classes))
    else:
        labels = labels_from_text(held[manifest.labels], manifest.classes, characters=manifest.blank is not None)
    if asked.session is not None:
        session = session_from(asked.session)
    elif needs_model:
        # Models that OpenVINO compiled earlier are not signed.
        cache = cache_folder("openvino") if asked.trust is None else None
        session = open_session(held.pop(variant.model), manifest, variant, settings, cache=cache)
        session.model_again = partial(_model_again, root, manifest, variant.model, check=asked.check)
    else:
        from xxdeploy.runtime.engines.trt import TrtSession

        session = TrtSession.from_opened(root, manifest, trust=asked.trust, target=settings.engine)
    used = settings if asked.session is None else None
    runtime = Runtime(root, manifest, variant, session, labels, version, used, asked.max_pixels)
    if asked.selftest:
        runtime.selftest()
    return runtime


def _model_again(root: Path, manifest: Manifest, model: str, *, check: bool) -> bytes:
    """Read the model file again: a forked process needs an engine of its own."""
    entry = next(entry for entry in manifest.files if entry.path == model)
    return read_entry(root, entry, check=check, total=entry.size)


def _read_files(root: Path, manifest: Manifest, model: str | None, *, check: bool) -> dict[str, bytes]:
    """Return the bytes of the labels and of ``model``; with ``check``, every other file is hashed, too."""
    held: dict[str, bytes] = {}
    total = sum(entry.size for entry in manifest.files)
    for entry in manifest.files:
        if entry.path in (model, manifest.labels):
            held[entry.path] = read_entry(root, entry, check=check, total=total)
        elif check:
            check_entry(root, entry, total=total)
    return held


def pick_variant(manifest: Manifest, features: frozenset[str], engine: str = "onnxruntime") -> Variant:
    """Return the first variant all of whose required features are there, for ``litert`` the first LiteRT file.

    Raises ``BundleError`` ``no-variant``.
    """
    litert = engine == LITERT
    have = features | {LITERT} if litert else features
    for variant in manifest.variants:
        if have.issuperset(variant.requires) and (LITERT in variant.requires) == litert:
            return variant
    who, hint = f"this processor (it has: {', '.join(sorted(features)) or 'nothing known'})", "a portable variant"
    if litert:
        who, hint = "LiteRT", "--with litert"
    elif all(LITERT in variant.requires for variant in manifest.variants):
        who, hint = f"{engine}: it has LiteRT files only", "--with litert, or leave the engine out"
    raise BundleError(
        f"no variant of {manifest.name} is for {who}", hint=f"export again with {hint}", code="no-variant"
    )


def named_variant(manifest: Manifest, name: str) -> Variant:
    """Return the variant called ``name`` (``UsageError`` ``unknown-variant``)."""
    for variant in manifest.variants:
        if variant.name == name:
            return variant
    raise UsageError(
        f"{manifest.name} has no variant {name!r}",
        hint=f"it has {', '.join(variant.name for variant in manifest.variants)}",
        code="unknown-variant",
    )


def _choice(root: Path, manifest: Manifest, tuning: str) -> Choice | None:
    """Return the stored choice; with ``measure``, measure if none is stored for the engines that are installed."""
    if tuning == "stored":
        return stored_choice(manifest)
    choice = stored_choice(manifest, engines=installed_engines())
    if choice is None:
        from xxdeploy.runtime.tune import tune_opened

        choice = tune_opened(root, manifest).choice
    return choice
