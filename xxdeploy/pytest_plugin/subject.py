"""A bundle under test: each check measures, raises an error for a fault, and returns its facts in a few words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.bundle.signature import trust
from xxdeploy.runtime.inputs import ArrayInput, parts_of
from xxdeploy.runtime.selftest import read_golden, run_selftest

if TYPE_CHECKING:
    from xxdeploy.datasets.images import ImageSet
    from xxdeploy.diagnose.first_fault import Reference

Facts = dict[str, str]
_BATCH = 8
_PARITY_IMAGES = 32


@dataclass(frozen=True, slots=True)
class SubjectOptions:
    """The tests of a bundle: the options of ``xxdeploy.pytest_plugin.plugin``, without ``--xxdeploy-``.

    ``UsageError``: ``bad-budget``, ``bad-agreement``, ``bad-accuracy``.
    """

    evaluation: str | os.PathLike[str] | None = None
    samples: int | None = None
    model: str | None = None
    weights: str | None = None
    key: str | None = None
    min_version: int = 0
    card: str | os.PathLike[str] | None = None
    beside: str | os.PathLike[str] | None = None
    budget: float | None = None
    min_agreement: float | None = None
    min_accuracy: float | None = None
    min_psnr: float | None = None
    min_iou: float | None = None
    max_error: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Return the promises about figures by their option, its dashes written as underscores."""
        asked = {"min_psnr": self.min_psnr, "min_iou": self.min_iou, "max_error": self.max_error}
        return {name: limit for name, limit in asked.items() if limit is not None}

    def __post_init__(self) -> None:
        if self.budget is not None and not self.budget > 0:
            raise UsageError(
                f"--xxdeploy-budget must be greater than 0, not {self.budget}",
                hint="1.0 asks for the same speed as the other bundle",
                code="bad-budget",
            )
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise UsageError(
                f"--xxdeploy-min-agreement must be in 0..1, not {self.min_agreement}",
                hint="0.98 is 98 % of the images",
                code="bad-agreement",
            )
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise UsageError(
                f"--xxdeploy-min-accuracy must be in 0..1, not {self.min_accuracy}",
                hint="0.7 is 70 % of the images",
                code="bad-accuracy",
            )


_DEFAULTS = SubjectOptions()


class Subject:
    """A bundle under test, opened when the first check needs it.

    A check that lacks an option (images, a model, a budget) is skipped with the reason. ``reference`` is the Keras
    model of the bundle, if the caller has it already; otherwise ``options.model`` is built or loaded.
    """

    def __init__(
        self, bundle: str | os.PathLike[str], options: SubjectOptions = _DEFAULTS, *, reference: Reference | None = None
    ) -> None:
        self.bundle = Path(bundle)
        self.options = options
        self._reference = reference

    @cached_property
    def runtime(self) -> Runtime:
        """The bundle, loaded."""
        return load(self.bundle, key=self.options.key, min_version=self.options.min_version)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.runtime.manifest

    @cached_property
    def reference(self) -> Reference:
        """The Keras model; skips the test if none is given."""
        if self._reference is not None:
            return self._reference
        model = self.options.model
        if model is None:
            pytest.skip("no Keras model is given: add --xxdeploy-model NAME, FILE or source")
        from xxdeploy.diagnose.first_fault import open_reference

        return open_reference(self.manifest, None if model == "source" else model, self.options.weights)

    @cached_property
    def images(self) -> ImageSet:
        """The images, labeled if the bundle has classes; skips the test if none are given."""
        if self.options.evaluation is None:
            pytest.skip("no images are given: add --xxdeploy-eval DIR")
        if self.manifest.task == "features":
            pytest.skip("the bundle returns features, which have no accuracy")
        from xxdeploy.datasets import open_samples
        from xxdeploy.diagnose.verify_bundle import open_labeled

        folder = Path(self.options.evaluation)
        if self.manifest.task == "classification":
            images = open_labeled(self.runtime, folder)
        else:
            images = open_samples(folder, self.manifest.form)
        samples = self.options.samples
        return images if samples is None else images.sample(min(samples, len(images)))

    def check_hashes(self) -> Facts:
        """Compare each file with the manifest, and the manifest with its signature if a key is given."""
        from xxdeploy.bundle.folder import check_bundle

        manifest = check_bundle(self.bundle, trust(self.options.key, self.options.min_version))
        facts = {"files": str(len(manifest.files))}
        return facts if self.runtime.version is None else {**facts, "version": str(self.runtime.version)}

    def check_records(self) -> Facts:
        """Compare the calibration record and the variants with the manifest. Errors as ``records.check_records``."""
        from xxdeploy.pytest_plugin.records import check_records

        return check_records(self.runtime.root, self.manifest)

    def check_golden(self) -> Facts:
        """Run the golden pairs of each variant for this processor. ``VerificationError`` ``golden-mismatch``."""
        from xxdeploy.cpu import cpu_features
        from xxdeploy.diagnose.explain import explain_golden

        tests = []
        for variant in self.manifest.variants:
            if variant.name != self.runtime.variant.name and not cpu_features().issuperset(variant.requires):
                continue
            session = load(
                self.bundle, variant=variant.name, key=self.options.key, min_version=self.options.min_version
            ).session
            try:
                tests.append(run_selftest(session, self.runtime.root, self.manifest, variant))
            except VerificationError as error:
                why = explain_golden(self.runtime.root, self.manifest, variant, session)
                raise VerificationError(f"{why}{error.message}", hint=error.hint, code=error.code) from error
        return {test.variant: f"{test.max_abs:.1e} (allowed {test.tolerance:.1e})" for test in tests}

    def check_parity(self) -> Facts:
        """Compare each stage with Keras, layer by layer. Errors as ``first_fault.check_stages``."""
        reference = self.reference  # first, since a test without a model is skipped where the exporter is absent
        from xxdeploy.diagnose.first_fault import check_stages

        root, drawn = self.runtime.root, self.options.evaluation is None
        reads_numbers = any(isinstance(part, ArrayInput) for _, part in parts_of(self.manifest.form))
        if drawn and reads_numbers and any(variant.precision == "int8" for variant in self.manifest.variants):
            # Numbers drawn from one range lie far outside that of a single feature, so INT8 clips them.
            pytest.skip("numbers drawn at random show nothing about INT8: add --xxdeploy-eval FILE.csv")
        parities = check_stages(root, self.manifest, reference, self._parity_batches(), drawn=drawn)
        return {parity.candidate: f"{parity.max_abs:.1e}" for parity in parities if parity.optimized}

    def check_agreement(self) -> Facts:
        """Compare classes, texts, pictures, masks or values with the float graph's on the images.

        ``VerificationError`` ``agreement``, ``psnr-low``, ``iou-low``, ``error-high``.
        """
        images, asked = self.images, self.options.figures  # without images a test is skipped before a model is built
        from xxdeploy.diagnose.measures import check_agreement, check_figures, recorded_limits

        if self.manifest.task not in ("classification", "sequence"):
            if not asked and not recorded_limits(self.runtime):
                pytest.skip("the bundle records no figures: export it with --eval, or add a promise about them")
            return check_figures(self.runtime, self.reference, images, asked)
        reference = self.reference

        return check_agreement(self.runtime, reference, images, self.options.min_agreement)

    def check_accuracy(self) -> Facts:
        """Compare top-1 with the bundle's record, and with ``min_accuracy``.

        ``VerificationError`` ``accuracy-below-card``, ``accuracy-below-floor``.
        """
        images, floor = self.images, self.options.min_accuracy
        if self.manifest.task == "sequence":
            pytest.skip("`xxdeploy verify BUNDLE --eval FOLDER` measures the right texts: see the check agreement")
        if self.manifest.task != "classification":
            pytest.skip(f"the task {self.manifest.task} has no labels to be right about: see the check agreement")
        from xxdeploy.diagnose.measures import check_accuracy, recorded_accuracy

        if floor is None and recorded_accuracy(self.runtime) is None:
            pytest.skip("the bundle records no accuracy: export it with --eval, or add --xxdeploy-min-accuracy SHARE")
        return check_accuracy(self.runtime, images, floor)

    def check_latency(self) -> Facts:
        """Compare the latency with another bundle or the float graph. ``VerificationError`` ``over-budget``."""
        if self.options.budget is None:
            pytest.skip("no budget is given: add --xxdeploy-budget RATIO")
        from xxdeploy.runtime.engines.ort import OrtSession

        beside = self.options.beside
        other = load(beside).session if beside else OrtSession(self.reference.fp32.to_bytes(), name="onnx-fp32")
        from xxdeploy.diagnose.measures import check_latency

        return check_latency(self.runtime, other, self.options.budget)

    def check_drift(self) -> Facts:
        """Compare the bundle with an earlier card or bundle. ``VerificationError`` ``drift``."""
        if self.options.card is None:
            pytest.skip("no earlier card is given: add --xxdeploy-card FILE")
        from xxdeploy.pytest_plugin.records import check_drift

        return check_drift(self.runtime.root, self.manifest, Path(self.options.card))

    def _parity_batches(self) -> list[NDArray[np.float32]]:
        """Return batches for parity: some of the images, or the golden images, preprocessed for the Keras model."""
        preprocess = self.reference.preprocess or self.manifest.form
        if self.options.evaluation is not None:
            from xxdeploy.datasets import open_samples

            every = open_samples(Path(self.options.evaluation), preprocess)
            return list(every.sample(min(_PARITY_IMAGES, len(every))).batches(preprocess, _BATCH))
        inputs = read_golden(self.runtime.root, self.manifest, self.runtime.variant)[0]
        return [preprocess.normalize(inputs)]
