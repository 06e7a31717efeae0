"""From the float32 graph to the precision that is asked for: one value, whatever that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.source import Source
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import Evidence, LayerNoise, OnProgress, Ranges
from xxdeploy.verify import Comparison


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file of the bundle: its ``name`` among the variants, how it is written, the features it ``requires``.

    ``answers`` is the model that computes, on this machine, what this one computes on its own processor.
    """

    name: str
    model: OnnxModel
    scheme: str
    requires: tuple[str, ...]
    answers: OnnxModel


@dataclass(frozen=True, slots=True)
class Lowered:
    """The model files, and what there is to say of them.

    ``ranges`` are those that were measured, ``records`` files for the bundle, ``evidence`` a part of the manifest's;
    ``judged`` compares files with the float model on selection images, ``noise`` names the layers that hurt;
    ``sentences`` and ``processors`` are for a person.
    """

    files: tuple[ModelFile, ...]
    ranges: Ranges | None = None
    records: Mapping[str, bytes] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    judged: tuple[Comparison, ...] = ()
    noise: tuple[LayerNoise, ...] = ()
    sentences: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()

    def stages(self, fp32: OnnxModel) -> dict[str, OnnxModel]:
        """Return the models that compute something of their own, the float32 one first, by the name of the stage.

        What an ARM file computes is known from the file that it shares its integers with, which names the stage.
        """
        found = {"onnx-fp32": fp32}
        for each in sorted(self.files, key=lambda each: "arm" in each.requires):
            if all(each.answers is not stage for stage in found.values()):
                found[f"onnx-{each.name}"] = each.answers
        return found

    def shipped(self, fp32: OnnxModel) -> dict[str, OnnxModel]:
        """Return for each of ``stages`` the file that x86 gets of it: it may take the picture's bytes."""
        return {
            name: next(
                (each.model for each in self.files if each.answers is stage and "arm" not in each.requires), stage
            )
            for name, stage in self.stages(fp32).items()
        }


def lower(
    source: Source,
    options: ExportOptions,
    fp32: OnnxModel,
    *,
    made_up: NDArray[np.float32],
    report: OnProgress,
) -> Lowered:
    """Bring ``fp32`` to ``options.precision``. ``made_up`` are pictures for want of better ones, (n, h, w, c).

    Raises
    ------
    XXDeployError
        Those of ``make_int8`` and ``make_fp16``.
    """
    if options.precision.name == "fp32":
        return Lowered((ModelFile("fp32", fp32, "float32", (), fp32),))
    if options.precision.name == "fp16":
        from xxdeploy.exporter.fp16 import make_fp16

        half = make_fp16(source.inputs, fp32, made_up, report, trained=source.trained)
        return Lowered(
            (ModelFile("fp16", half.model, "float16", (), half.model),),
            ranges=half.ranges,
            evidence=half.evidence,
            sentences=half.sentences,
        )
    from xxdeploy.exporter.int8 import make_int8

    int8 = make_int8(source, options, fp32, report)
    files = [ModelFile(each.name, each.model, each.scheme, each.requires, each.answers) for each in int8.variants.built]
    if options.precision.keep_fp32:  # last: it is picked where no other may be, and by `tune` where it is faster
        files.append(ModelFile("fp32", fp32, "float32", (), fp32))
    return Lowered(
        tuple(files),
        ranges=int8.ranges,
        records=int8.records,
        evidence=int8.evidence,
        judged=int8.judged,
        noise=int8.noise,
        processors=int8.variants.sentences,
    )


def finish(lowered: Lowered, options: ExportOptions, classes: int | None) -> Lowered:
    """Return ``lowered`` with its files as ``options`` ships them; what each answers is the whole model's still.

    An engine gets LRN as one operator; ``--top-k`` is how many of ``classes`` the files give (None: features).

    Raises
    ------
    ConversionError
        ``top-k-outputs``.
    """
    with extra("export"):
        from xxdeploy.lowering.embed_topk import embed_topk
        from xxdeploy.passes.lrn_as_sums import whole_lrn

    best = options.output.top_k

    def shipped(model: OnnxModel) -> OnnxModel:
        if options.gpu.engine is not None:
            return whole_lrn(model)
        return model if best is None or classes is None else embed_topk(model, best, classes)

    return replace(lowered, files=tuple(replace(each, model=shipped(each.model)) for each in lowered.files))
