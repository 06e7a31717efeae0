"""Options that depend on the task, and promises and budgets: those that a task can have, and whether they are kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from xxdeploy.bundle.pack import pack
from xxdeploy.datasets import Labels
from xxdeploy.datasets.texts import load_alphabet
from xxdeploy.errors import EngineError, UsageError, VerificationError
from xxdeploy.exporter.option_groups import Budgets, ProofOptions
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.result import Conclusions
from xxdeploy.results import Accuracy, LayerNoise, ModelOutput
from xxdeploy.runtime.bench import BenchResult, bench
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.verify import (
    FIGURE_PROMISES,
    Comparison,
    Verdict,
    agreement_verdict,
    drop_verdict,
    figure_verdict,
    wilson_interval,
)

_ROUNDS = 30
_FEW_TEXTS = 0.05
"""The share of right texts below which the options may be wrong rather than the model."""


def check_top_k(count: int | None, output: ModelOutput) -> None:
    """Raise ``UsageError`` ``top-k-invalid`` unless the best ``count`` classes of ``output`` can be taken."""
    classes = output.classes
    if count is not None and output.task == "features":
        message, hint = "a feature extractor has no best class", "leave out --top-k or --no-top"
        raise UsageError(message, hint=hint, code="top-k-invalid")
    if count is not None and output.task != "classification":
        message = f"--top-k is for classifiers, and this model is exported with --task {output.task}"
        raise UsageError(message, hint="leave out --top-k", code="top-k-invalid")
    if count is not None and classes is not None and not 1 <= count <= classes:
        message = f"--top-k must be 1 to {classes}, the number of classes, not {count}"
        raise UsageError(message, hint="5 is usual", code="top-k-invalid")


_KINDS = {"pictures": "pictures", "masks": "masks of classes", "values": "values"}
_TASKS = {"pictures": "image", "masks": "image", "values": "values"}


def check_evaluation(options: ExportOptions, output: ModelOutput) -> None:
    """Refuse promises that the task cannot have, and those that no images are given for.

    ``UsageError``: ``promise-task``, ``promise-without-eval``, ``features-evaluation``, ``min-agreement-without-eval``,
    ``threshold-without-eval``, ``max-drop-without-eval``.
    """
    proof = options.proof
    _check_task(proof, output)
    if output.task == "features" and any(
        asked is not None for asked in (proof.evaluation, proof.max_drop, proof.min_agreement, proof.threshold)
    ):
        raise UsageError(
            "a feature extractor (--no-top) has no classes, so accuracy cannot be evaluated",
            hint="leave out --eval, --max-drop, --min-agreement and --threshold, or --no-top",
            code="features-evaluation",
        )
    if options.precision.fp16 and proof.min_agreement is not None and proof.evaluation is None:
        raise UsageError(
            "--min-agreement cannot be checked without images",
            hint="add --eval FOLDER, one subfolder a class",
            code="min-agreement-without-eval",
        )
    if options.precision.fp16 and proof.threshold is not None and proof.evaluation is None:
        raise UsageError(
            "--threshold compares scores on images, and none are given",
            hint="add --eval FOLDER, one subfolder a class",
            code="threshold-without-eval",
        )
    if proof.figures and proof.evaluation is None and not options.precision.int8:  # INT8 has its selection images
        raise UsageError(
            f"--{_dashed(next(iter(proof.figures)))} cannot be checked without images",
            hint="add --eval FOLDER with pictures, which need no labels",
            code="promise-without-eval",
        )
    if proof.max_drop is not None and proof.evaluation is None:
        raise UsageError(
            "--max-drop cannot be checked without labeled images",
            hint="add --eval FOLDER, one subfolder a class; or promise --min-agreement 98, which needs no labels",
            code="max-drop-without-eval",
        )


def _check_task(proof: ProofOptions, output: ModelOutput) -> None:
    """Raise ``UsageError`` ``promise-task`` for promises of other tasks."""
    of_classes = {"max-drop": proof.max_drop, "min-agreement": proof.min_agreement, "threshold": proof.threshold}
    kind = _kind_of(output)
    fitting = [name for name, promise in FIGURE_PROMISES.items() if promise.kind == kind]
    wrong = [f"--{_dashed(name)}" for name in proof.figures if name not in fitting]
    if output.task == "sequence":
        of_classes = {"threshold": proof.threshold}
    if output.task not in ("classification", "features"):
        wrong += [f"--{name}" for name, asked in of_classes.items() if asked is not None]
    if not wrong:
        return
    suited = " or ".join(f"--{_dashed(name)}" for name in fitting)
    about = _KINDS.get(kind or "", f"the task {output.task}")
    hint = f"promise {suited} instead" if fitting else "leave it out"
    asked = FIGURE_PROMISES.get(wrong[0].removeprefix("--").replace("-", "_"))
    if asked is not None and kind is None:
        hint = f"leave it out, or export the model with --task {_TASKS[asked.kind]}"
    raise UsageError(f"{wrong[0]} does not apply to {about}", hint=hint, code="promise-task")


def check_sequence(options: ExportOptions) -> None:
    """Raise ``UsageError`` unless readers of texts, and no others, have their options.

    Codes ``labels-missing``, ``ctc-blank``.
    """
    network = options.network
    if network.task != "sequence":
        if network.ctc_blank is not None:
            raise UsageError(
                "--ctc-blank is about a model that reads texts",
                hint="add --task sequence, or leave --ctc-blank out",
                code="ctc-blank",
            )
        return
    if network.labels is None:
        raise UsageError(
            "--task sequence needs the characters, and no --labels are given",
            hint="add --labels FILE with one character a line, in the order of the outputs, without the blank",
            code="labels-missing",
        )
    if network.ctc_blank is None:
        raise UsageError(
            "--task sequence needs the class of CTC that is no character",
            hint="add --ctc-blank last (keras.backend.ctc_batch_cost, keras.io's examples) or --ctc-blank first "
            "(keras.losses.CTC)",
            code="ctc-blank",
        )


def alphabet(options: ExportOptions, output: ModelOutput) -> tuple[Labels | None, ModelOutput]:
    """Return the texts of the classes, and the output that knows them; None where the options do not say them."""
    network, classes = options.network, output.classes or 0
    if network.labels is None or network.ctc_blank is None:
        return None, output
    blank = classes - 1 if network.ctc_blank == "last" else 0
    labels = load_alphabet(network.labels, classes, blank)
    return labels, replace(output, blank=blank, names=labels.names)


def _kind_of(output: ModelOutput) -> str | None:
    """Return the kind of an output in ``FIGURE_PROMISES``; None for classes and features."""
    if output.task == "image":
        return "masks" if output.output_range is None else "pictures"
    return "values" if output.task == "values" else None


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def warnings_about(accuracies: Sequence[Accuracy], classes: int | None) -> tuple[str, ...]:
    """Return a warning if Keras' own top-1 is no better than chance, 1 of ``classes``: the input may be wrong.

    It is no better if chance lies above the lower end of the 95 % Wilson interval.
    """
    top1 = accuracies[0].top1 if accuracies else None
    if top1 is None or classes is None or classes < 2:
        return ()
    images = accuracies[0].images
    if accuracies[0].figures:
        return (
            (f"WARNING: Keras itself reads {100 * top1:.1f} % of the {images} texts: check --preprocess, --transpose, "
            "--labels and --ctc-blank",) if top1 < _FEW_TEXTS else ()
        )  # fmt: skip
    if wilson_interval(round(top1 * images), images).low > 1 / classes:
        return ()
    return (
        f"WARNING: Keras itself is right on {100 * top1:.1f} % of the {images} evaluation images, no better than "
        f"chance ({100 / classes:.1f} % with {classes} classes): check --preprocess and the order of the labels",
    )


def keep_promises(
    options: ExportOptions,
    comparisons: Sequence[Comparison],
    selection: Sequence[Comparison] = (),
    noise: Sequence[LayerNoise] = (),
    recipe: Mapping[str, object] | None = None,
) -> Conclusions:
    """Describe the loss of each model, and check the promises.

    ``comparisons`` are on the evaluation images, the float32 graph's first. Promises are about the files in lower
    precision, or about the float32 graph if it is the only one. Without ``comparisons``, all but --max-drop are checked
    on the ``selection`` images. ``recipe`` is the INT8 file's, by the keys of a recipe file.

    Raises
    ------
    VerificationError
        ``accuracy-drop``, ``agreement-low``, ``psnr-low``, ``iou-low``, ``error-high``: a promise is broken; the hint
        names the most sensitive layers of ``noise``. ``promise-unproven``: with --strict, its interval exceeds it.
    """
    judged = comparisons[1:] or comparisons
    proof, verdicts = options.proof, []
    for comparison in judged or selection:
        if proof.min_agreement is not None and comparison.agreement is not None:
            verdicts.append(agreement_verdict(comparison, proof.min_agreement))
        if proof.max_drop is not None and judged:
            verdicts.append(drop_verdict(comparison, proof.max_drop))
        verdicts += [figure_verdict(comparison, name, limit) for name, limit in proof.figures.items()]
    broken = [verdict for verdict in verdicts if not verdict.kept]
    unproven = [verdict for verdict in verdicts if proof.strict and not verdict.supported]
    if broken:
        hint = "try more calibration images (--samples), or another promise"
        if noise:
            lines = _recipe_lines(recipe or {}, [layer.layer for layer in noise[:3]])
            hint = f"{hint}; or keep the most sensitive layers in float by --recipe FILE, a text file with\n{lines}"
        raise VerificationError(_lines(broken), hint=hint, code=broken[0].code)
    if unproven:
        hint = "evaluate on more images (--eval), or leave out --strict"
        raise VerificationError(_lines(unproven, strict=True), hint=hint, code="promise-unproven")
    sentences = tuple(chain.from_iterable(comparison.sentences for comparison in judged or selection))
    return Conclusions(sentences, tuple(verdict.line(strict=proof.strict) for verdict in verdicts))


def _recipe_lines(recipe: Mapping[str, object], layers: Sequence[str]) -> str:
    """Return a recipe as TOML, with more layers in float. Its texts, truths and lists are those of JSON, too."""
    before = recipe.get("float-layers", ())
    kept = tuple(dict.fromkeys((*before, *layers))) if isinstance(before, (list, tuple)) else tuple(layers)
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in {**recipe, "float-layers": kept}.items())


def _lines(verdicts: Sequence[Verdict], *, strict: bool = False) -> str:
    return "; ".join(verdict.line(strict=strict) for verdict in verdicts)


def keep_budgets(
    budgets: Budgets,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    measure: Callable[..., BenchResult] = bench,
) -> tuple[str, ...]:
    """Measure the bundle, written to a temporary folder, against each budget; return a sentence about each.

    ``measure`` takes the folder, ``rounds`` and ``tuning``, as ``bench`` does.

    Raises
    ------
    VerificationError
        ``over-size``, ``over-latency``, ``over-memory``.
    EngineError
        ``memory-unknown``: this system does not report the memory of a process. Else as ``bench``.
    """
    said = []
    size = (sum(map(len, files.values())) + len(manifest.to_json())) / 1e6
    if budgets.max_size_mb is not None:
        model = max(len(content) for path, content in files.items() if path.endswith((".onnx", ".ort"))) / 1e6
        if size > budgets.max_size_mb:
            raise VerificationError(
                f"the bundle has {size:.2f} MB, more than --max-size-mb {budgets.max_size_mb:g}",
                hint=f"its largest model file has {model:.2f} MB; try --int8, a smaller --alpha, or one --cpu",
                code="over-size",
            )
        said.append(f"size {size:.2f} MB, at most {budgets.max_size_mb:g} allowed")
    if budgets.max_latency_ms is None and budgets.max_memory_mb is None:
        return tuple(said)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        measured = measure(pack(manifest, files, Path(folder) / "bundle"), rounds=_ROUNDS, tuning="off")
    if budgets.max_latency_ms is not None:
        if measured.p50_ms > budgets.max_latency_ms:
            raise VerificationError(
                f"an image takes {measured.p50_ms:.2f} ms on this machine (median of {measured.rounds}), "
                f"more than --max-latency-ms {budgets.max_latency_ms:g}",
                hint=f"the engine takes {measured.model_p50_ms:.2f} ms; try --int8, a smaller --alpha or --input-size",
                code="over-latency",
            )
        said.append(f"latency {measured.p50_ms:.2f} ms, at most {budgets.max_latency_ms:g} allowed")
    if budgets.max_memory_mb is not None:
        if measured.peak_memory_bytes is None:
            raise EngineError(
                "the memory of a process cannot be measured on this system",
                hint="leave --max-memory-mb out here, and use `xxdeploy bench` on the device",
                code="memory-unknown",
            )
        memory = measured.peak_memory_bytes / 1e6
        if memory > budgets.max_memory_mb:
            raise VerificationError(
                f"a process with the bundle takes {memory:.1f} MB, more than --max-memory-mb {budgets.max_memory_mb:g}",
                hint="Python and the engine alone are about 60 MB; try --int8, a smaller --alpha or --input-size",
                code="over-memory",
            )
        said.append(f"memory {memory:.1f} MB, at most {budgets.max_memory_mb:g} allowed")
    return tuple(said)
