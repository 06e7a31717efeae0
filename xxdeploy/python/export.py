"""``xxdeploy.export``: from a model in memory, a path or a name to a verified bundle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from xxdeploy.datasets.given import Wanted
from xxdeploy.datasets.in_memory import Written, write_pictures
from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.exporter.assemble import bundle_name
from xxdeploy.exporter.inputs import AUTO, DEFAULT_SAMPLES, SELECTION
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.pipeline import export as run_export
from xxdeploy.exporter.report_data import Caller
from xxdeploy.exporter.result import ExportResult
from xxdeploy.exporter.source import Given, InMemory, name_of, source_of
from xxdeploy.models.catalog import ModelSpec
from xxdeploy.optional import extra
from xxdeploy.python.keywords import in_python, options_from, reworded, signature
from xxdeploy.python.progress import progress_view
from xxdeploy.results import OnProgress, Progress
from xxdeploy.runtime.bundle.tasks import TASKS

_FEWEST_DRAWN = 2000
"""Of more calibration pictures in memory, at least so many are drawn."""
_SHOWN = 60


def export(
    model: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    quiet: bool = False,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> ExportResult:
    """Convert a model, compare its answers with those of Keras, and write a bundle for the device.

    Parameters
    ----------
    model : keras.Model, tf_keras.Model, str or path
        A model in memory, which stays as it is; the path of a model file; or a name of the catalog (``mobilenetv2``).
    out : str or path
        The folder of the bundle, by default ``exports/NAME-PRECISION``.
    quiet : bool
        Show no progress. By default a notebook shows a bar, and other programs get a line on stderr for each step.
    on_progress : callable
        Called with each ``xxdeploy.results.Progress`` instead of showing it.
    **options
        Those of ``xxdeploy export``, with ``_`` for ``-``: ``int8=True, max_drop=1``. ``calibration`` and ``eval`` also
        take pictures in memory: an array (n, height, width, channels) of integers or floats of 0..255, for ``eval`` a
        pair of it and the labels; a ``tf.data.Dataset``; any iterable of pictures, (picture, label) or batches. Floats
        of 0..1 need ``preprocess="0..1"``. ``labels`` also takes a list of names, ``preprocess`` a dictionary with
        ``scale``, ``mean``, ``std``.

    Returns
    -------
    ExportResult
        The path of the bundle, the rows of the closing table, the verdicts on promises, and notes.

    Raises
    ------
    XXDeployError
        Those of ``xxdeploy export``; ``UsageError`` ``model-type``, ``unknown-option``, ``option-type``, ``picture-*``
        and ``endless-pictures`` for arguments. ``str(error)`` has the code and the hint. Nothing is written then.
    """
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        try:
            source = _source(model)
            view: Any = nullcontext(on_progress or _silent) if quiet or on_progress else progress_view()
            with view as report:
                asked, notes = _with_files(options, Path(folder), report, _classes(source, options))
                caller = Caller(_call(model, source, out, options), notes)
                result = _run(source, asked, _folder(out, source, asked), report, caller)
        except XXDeployError as error:
            reworded(error, Path(folder))
            raise
    return _reworded(result)


export.__signature__ = signature(export)  # type: ignore[attr-defined]


def _run(source: Given, options: ExportOptions, out: Path, report: OnProgress, caller: Caller) -> ExportResult:
    with extra("export"):
        from xxdeploy.convert.keras_session import settings_of_export
    with settings_of_export():
        return run_export(source, options, out, on_progress=report, caller=caller)


def _reworded(result: ExportResult) -> ExportResult:
    """Return a result whose sentences speak of keyword arguments."""
    told = result.conclusions
    conclusions = replace(
        told, sentences=tuple(map(in_python, told.sentences)), warnings=tuple(map(in_python, told.warnings))
    )
    return replace(result, notes=tuple(map(in_python, result.notes)), conclusions=conclusions)


def _silent(_: Progress) -> None:
    """Show nothing."""


def _source(model: Any) -> Given:
    if isinstance(model, (str, os.PathLike)):
        return source_of(str(Path(model).expanduser()))
    if isinstance(model, ModelSpec):
        return model
    with extra("export"):
        from xxdeploy.convert.user_model.in_memory import is_of_keras_2, is_of_keras_3
    if is_of_keras_2(model) or is_of_keras_3(model):
        return InMemory(model)
    kind = model if isinstance(model, type) else type(model)
    made = " (not yet called)" if isinstance(model, type) or (callable(model) and hasattr(model, "__name__")) else ""
    raise UsageError(
        f"xxdeploy.export takes a model, and was given {kind.__module__}.{kind.__qualname__}{made}",
        hint="give a keras.Model, the path of a .keras or .h5 file, or a name that `xxdeploy models` lists",
        code="model-type",
    )


def _folder(out: Any, source: Given, options: ExportOptions) -> Path:
    if out is not None:
        return Path(out).expanduser()
    network, precision = options.network, options.precision
    name = bundle_name(name_of(source), precision.name, weights=network.weights, target=options.gpu.target)
    return Path("exports") / name


def _classes(source: Given, options: Mapping[str, Any]) -> int | None:
    """Return the number of classes of a model in memory, None where it is not known before the model is read."""
    shape = getattr(source.model, "output_shape", None) if isinstance(source, InMemory) else None
    if options.get("output_layer") is not None or not isinstance(shape, tuple) or not isinstance(shape[-1], int):
        return None
    return shape[-1] if shape[-1] > 1 else None


def _with_files(
    given: Mapping[str, Any], folder: Path, report: OnProgress, classes: int | None
) -> tuple[ExportOptions, tuple[str, ...]]:
    """Write what is in memory to files below ``folder``; return the options with their paths, and notes."""
    words = dict(given)
    held = {name: words.pop(name) for name in ("calibration", "eval") if _is_held(words.get(name))}
    for name, kinds in (("labels", (list, tuple)), ("preprocess", (dict,))):
        if isinstance(words.get(name), kinds):
            words[name] = _as_json(folder / f"{name}.json", words[name])
    notes: tuple[str, ...] = ()
    # Options are refused before pictures are read; promises need the pictures that stand in for them here.
    options_from({**words, **dict.fromkeys(held, folder)})
    for name, pictures in held.items():
        written = _written(pictures, folder / name, _wanted(name, words, classes), report)
        words[name], notes = written.folder, (*notes, *written.notes)
    return options_from(words), notes


def _is_held(value: Any) -> bool:
    return value is not None and not isinstance(value, (str, os.PathLike))


def _as_json(path: Path, value: Any) -> Path:
    try:
        path.write_text(json.dumps(value), encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{path.stem} has values that are no texts and numbers: {error}",
            hint="labels=['cat', 'dog'], preprocess={'scale': 0.00392, 'mean': [0.5], 'std': [0.5]}",
            code="option-type",
        ) from error
    return path


def _wanted(name: str, words: Mapping[str, Any], classes: int | None) -> Wanted:
    samples, task = words.get("samples"), words.get("task") or "classification"
    return Wanted(
        name,
        labeled=name == "eval" and task == "classification",
        has_classes=TASKS[task].has_classes is True,
        takes_unit=words.get("preprocess") in (AUTO, "0..1"),
        most=max(_FEWEST_DRAWN, 2 * (samples or DEFAULT_SAMPLES) + SELECTION) if name == "calibration" else None,
        seed=words.get("seed") or 0,
        classes=classes,
    )


def _written(pictures: Any, folder: Path, wanted: Wanted, report: OnProgress) -> Written:
    step = f"pictures of {wanted.name}"
    written = write_pictures(pictures, folder, wanted, lambda count: report(Progress(step, count, None)))
    report(Progress(step, written.seen, written.seen))
    return written


def _call(model: Any, source: Given, out: Any, options: Mapping[str, Any]) -> str:
    """Return the call as text, for the report: values in memory by their kind, files by their names."""
    shown = {"model": "model" if isinstance(source, InMemory) else _text(model)}
    if out is not None:
        shown["out"] = _text(out)
    shown |= {name: _text(value) for name, value in options.items() if value is not None}
    first = shown.pop("model")
    return f"xxdeploy.export({', '.join([first, *(f'{name}={text}' for name, text in shown.items())])})"


def _text(value: Any) -> str:
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        return repr(Path(text).name if os.sep in text else text)
    if isinstance(value, (bool, int, float, dict)) or (isinstance(value, (list, tuple)) and _is_short(value)):
        return repr(value)[:_SHOWN]
    shape = getattr(value, "shape", None)
    size = "" if shape is None else f" {tuple(shape)}"
    return f"<{type(value).__name__}{size}>"


def _is_short(values: Iterable[Any]) -> bool:
    return all(isinstance(value, (str, int, float)) for value in values)
