"""A bundle under test: each check measures, raises what is wrong, and returns what it found in a few words."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.bundle.files import read_entry
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.bundle.signature import trust
from xxdeploy.runtime.selftest import read_golden, run_selftest

if TYPE_CHECKING:
    from xxdeploy.datasets.images import ImageSet
    from xxdeploy.diagnose.first_fault import Truth

Facts = dict[str, str]
_BATCH = 8
_PARITY_IMAGES = 32


class Subject:
    """One bundle, and what it is tested with; parameters as the options of ``xxdeploy.pytest_plugin.plugin``.

    What a check needs is opened once, when the first asks for it. A check that lacks something (images, a model, a
    budget) is skipped with the reason.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        evaluation: str | os.PathLike[str] | None = None,
        samples: int | None = None,
        model: str | None = None,
        weights: str | None = None,
        key: str | None = None,
        min_version: int = 0,
        card: str | os.PathLike[str] | None = None,
        beside: str | os.PathLike[str] | None = None,
        budget: float | None = None,
        min_agreement: float | None = None,
    ) -> None:
        if budget is not None and not budget > 0:
            raise UsageError(f"a budget of {budget} times is none", hint="1.0 or less is faster", code="bad-budget")
        if min_agreement is not None and not 0 <= min_agreement <= 1:
            raise UsageError(f"{min_agreement} is no share of images", hint="0.98 for 98 %", code="bad-agreement")
        self.bundle = Path(bundle)
        self.key, self.min_version = key, min_version
        self.budget, self.min_agreement = budget, min_agreement
        self._evaluation, self._samples = evaluation, samples
        self._model, self._weights = model, weights
        self._card, self._beside = card, beside

    @cached_property
    def runtime(self) -> Runtime:
        """The bundle, loaded."""
        return load(self.bundle, key=self.key, min_version=self.min_version)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.runtime.manifest

    @cached_property
    def truth(self) -> Truth:
        """The Keras model; skips where none is named."""
        if self._model is None:
            _skip("no Keras model is named: --xxdeploy-model NAME, FILE or source")
        from xxdeploy.diagnose.first_fault import open_truth

        return open_truth(self.manifest, None if self._model == "source" else self._model, self._weights)

    @cached_property
    def images(self) -> ImageSet:
        """The labeled images; skips where none are given."""
        if self._evaluation is None:
            _skip("no images are given: --xxdeploy-eval DIR")
        if self.manifest.task != "classification":
            _skip("features have no classes")
        from xxdeploy.datasets import open_images
        from xxdeploy.diagnose.verify_bundle import labels_of

        found = open_images(Path(self._evaluation), labels=labels_of(self.runtime), require_labels=True)
        return found if self._samples is None else found.sample(min(self._samples, len(found)))

    def check_hashes(self) -> Facts:
        """Compare every file with the manifest, and where a key is given the manifest with its signature."""
        from xxdeploy.bundle.folder import check_bundle

        manifest = check_bundle(self.bundle, trust(self.key, self.min_version))
        facts = {"files": str(len(manifest.files))}
        return facts if self.runtime.version is None else {**facts, "version": str(self.runtime.version)}

    def check_records(self) -> Facts:
        """Compare what the bundle says of its calibration with the graph that it says it was made from.

        Raises
        ------
        VerificationError
            ``stale-calibration``: ranges of another model, or of other images than the evidence names.
        """
        from xxdeploy.pytest_plugin.records import check_records

        return check_records(self.runtime.root, self.manifest)

    def check_golden(self) -> Facts:
        """Run the golden pairs of every variant that this processor runs. ``VerificationError`` ``golden-mismatch``."""
        from xxdeploy.diagnose.explain import explain_golden

        tests = []
        for variant in self.manifest.variants:
            if variant.name != self.runtime.variant.name and not _runs(self.runtime, variant.name):
                continue
            session = load(self.bundle, variant=variant.name, key=self.key, min_version=self.min_version).session
            try:
                tests.append(run_selftest(session, self.runtime.root, self.manifest, variant))
            except VerificationError as error:
                why = explain_golden(self.runtime.root, self.manifest, variant, session)
                raise VerificationError(f"{why}{error.message}", hint=error.hint, code=error.code) from error
        return {test.variant: f"{test.max_abs:.1e} (allowed {test.tolerance:.1e})" for test in tests}

    def check_parity(self) -> Facts:
        """Compare every stage with Keras, layer by layer. Errors as ``pipeline.places.check_places``."""
        from xxdeploy.diagnose.first_fault import check_places

        truth = self.truth
        found = check_places(self.runtime.root, self.manifest, truth, self._pictures(), drawn=self._evaluation is None)
        return {each.candidate: f"{each.max_abs:.1e}" for each in found if each.optimized}

    def check_agreement(self) -> Facts:
        """Compare classes with the float graph's on the images. ``VerificationError`` ``agreement``."""
        from xxdeploy.diagnose.measures import check_agreement

        images = self.images
        return check_agreement(self.runtime, self.truth, images, self.min_agreement)

    def check_accuracy(self) -> Facts:
        """Compare top-1 with the bundle's record. ``VerificationError`` ``accuracy-below-card``."""
        from xxdeploy.diagnose.measures import check_accuracy

        return check_accuracy(self.runtime, self.images)

    def check_latency(self) -> Facts:
        """Time it beside another bundle or the float graph, in turns. ``VerificationError`` ``over-budget``."""
        if self.budget is None:
            _skip("no budget is given: --xxdeploy-budget RATIO")
        from xxdeploy.diagnose.measures import check_latency
        from xxdeploy.runtime.engines.ort import OrtSession

        beside = (
            load(self._beside).session if self._beside else OrtSession(self.truth.fp32.to_bytes(), name="onnx-fp32")
        )
        return check_latency(self.runtime, beside, self.budget)

    def check_drift(self) -> Facts:
        """Compare the bundle with an earlier card or bundle. ``VerificationError`` ``drift``."""
        if self._card is None:
            _skip("no earlier card is given: --xxdeploy-card FILE")
        from xxdeploy.pytest_plugin.records import check_drift

        return check_drift(self.runtime.root, self.manifest, Path(self._card))

    def _pictures(self) -> list[NDArray[np.float32]]:
        """Batches for parity: a few of the images, else the golden ones, preprocessed as the Keras model asks."""
        preprocess = self.truth.preprocess or self.manifest.preprocess
        if self._evaluation is not None:
            from xxdeploy.datasets import open_images

            every = open_images(Path(self._evaluation))
            return list(every.sample(min(_PARITY_IMAGES, len(every))).batches(preprocess, _BATCH))
        inputs = read_golden(self.runtime.root, self.manifest, self.runtime.variant)[0]
        return [preprocess.normalize(inputs)]

    def read(self, path: str) -> bytes:
        """Return a file of the bundle, its hash compared."""
        entry = next(entry for entry in self.manifest.files if entry.path == path)
        return read_entry(self.runtime.root, entry)


def _runs(runtime: Runtime, name: str) -> bool:
    from xxdeploy.runtime.cpu import cpu_features

    variant = next(each for each in runtime.manifest.variants if each.name == name)
    return cpu_features().issuperset(variant.requires)


def _skip(reason: str) -> NoReturn:
    pytest.skip(reason)
