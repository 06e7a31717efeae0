"""Load one signature of a SavedModel folder into a ``keras.Model``, without ``tf.saved_model.load``."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.catalog.weights import check_finite
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.describe import LoadedModel
from xxdeploy.convert.user_model.guard import MAX_ACTIVATION
from xxdeploy.convert.user_model.inputs import NOTHING, read_inputs
from xxdeploy.convert.user_model.quarantine.inspect import ask, error_of
from xxdeploy.convert.user_model.quarantine.saved_model.constants import MAX_REPEATED
from xxdeploy.convert.user_model.quarantine.saved_model.reader import CONSTANTS
from xxdeploy.convert.user_model.saved_model.grouping import parts_of
from xxdeploy.convert.user_model.saved_model.naming import valid_name
from xxdeploy.convert.user_model.saved_model.program import Program, Ref, run
from xxdeploy.convert.user_model.saved_model.signature import SavedSignature, Shape, signature_from
from xxdeploy.convert.user_model.usual_size import usual_size
from xxdeploy.errors import ConversionError, UsageError, XXDeployError

if TYPE_CHECKING:
    import keras

_GENERIC = re.compile(r"(output|Identity|StatefulPartitionedCall|PartitionedCall)(_\d+)?")


def load_saved_model(
    path: Path,
    *,
    signature: str | None = None,
    input_size: int | tuple[int, int] | None = None,
    images: Path | None = None,
) -> LoadedModel:
    """Return one signature of the SavedModel ``path`` as a Keras model with a free batch axis, float32, and notes.

    The layers of the model have the names of the Keras layers that made the graph. Each computes with the kernels of
    TensorFlow and the attributes in the file.

    Raises
    ------
    UsageError
        Those of ``quarantine.saved_model.reader``; ``bad-input-size``, ``input-size-missing``,
        ``saved-model-operation``, ``saved-model-training``, ``saved-model-batch``, ``saved-model-output``.
    ConversionError
        ``damaged-model``, ``unsafe-model``, ``build-failed``, ``activations-too-large``, ``non-finite-weights``.
    """
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        answer = ask(path, Path(folder), signature=signature)
        if "error" in answer:
            raise error_of(answer)
        load_keras()
        saved = signature_from(answer, path, Path(folder) / CONSTANTS)
    shapes, notes = sized(path, saved.shapes, input_size, images)
    try:
        model, said = _built(saved, shapes, path)
    except XXDeployError:
        raise
    except Exception as error:  # TensorFlow raises errors of many classes for a graph that does not fit
        reason = " ".join(str(error).split())[:300]
        if input_size is not None:
            raise UsageError(
                f"{path} does not work with this --input-size: {reason}",
                hint="leave --input-size out: the graph depends on the size of its training",
                code="bad-input-size",
            ) from error
        raise ConversionError(
            f"TensorFlow cannot build the signature {saved.name} of {path}: {reason}",
            hint="where the model was made, save it as a .keras file (model.save('NAME.keras')) and export that",
            code="build-failed",
        ) from error
    check_finite(model, path.name)
    notes = (*saved.notes, *notes, *said)
    fixed = next((shape[0] for shape in saved.shapes if shape and shape[0] is not None), None)
    if fixed is not None:
        check_free_batch(model, fixed, path)
        notes += (f"the model was saved for batches of {fixed}; the bundle takes any batch size",)
    return LoadedModel(model, notes)


def not_a_saved_model(path: Path, signature: str) -> UsageError:
    """Return the error for a signature of a file, which has none."""
    return UsageError(
        f"--signature {signature} belongs to a SavedModel folder, and {path} is none",
        hint="leave --signature out",
        code="saved-model-option",
    )


def refuse_file_options(
    path: Path, weights: Path | None, custom_objects: Sequence[str], unsafe_lambda: bool, inference_mode: bool
) -> None:
    """Refuse options that have no meaning for a SavedModel: ``UsageError`` ``saved-model-option``."""
    given = {
        "weights": weights is not None,
        "custom-objects": bool(custom_objects),
        "unsafe-lambda": unsafe_lambda,
        "inference-mode": inference_mode,
    }
    names = [f"--{name}" for name, is_given in given.items() if is_given]
    if names:
        raise UsageError(
            f"{path} is a SavedModel folder, which holds its weights and no code, so {names[0]} has no meaning",
            hint=f"leave out {', '.join(names)}",
            code="saved-model-option",
        )


def sized(
    path: Path, shapes: Sequence[Shape], input_size: int | tuple[int, int] | None, images: Path | None
) -> tuple[list[Shape], tuple[str, ...]]:
    """Return the shapes of the inputs with the size of ``input_size`` or a usual one, and notes. No framework."""
    notes: tuple[str, ...] = ()
    pictures = [shape for shape in shapes if len(shape) == 4]
    if input_size is None and pictures:
        layer = {"class_name": "InputLayer", "config": {"batch_shape": list(pictures[0])}}
        usual = usual_size({"class_name": "Model", "config": {"name": path.name, "layers": [layer]}}, path, images)
        if usual is not None:
            input_size, said = usual
            notes = (
                f"the model takes images of any size: {input_size[0]} x {input_size[1]}, {said} (or --input-size N)",
            )
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    changed = [
        (None, *size, shape[3]) if size is not None and len(shape) == 4 and shape[1:3] == pictures[0][1:3]
        else (None, *shape[1:])
        for shape in shapes
    ]  # fmt: skip
    for shape in changed:
        if len(shape) == 4 and None in shape[1:3]:
            read_inputs(path.name, [("input", shape)], NOTHING, lambda: None)  # raises: the size is unknown
    return changed, notes


def _built(saved: SavedSignature, shapes: Sequence[Shape], path: Path) -> tuple[keras.Model, list[str]]:
    """Return the model of layers, and notes."""
    import keras

    from xxdeploy.convert.user_model.saved_model.layer import SavedModelLayer

    specs = _specs(saved.program, shapes, path)
    depends = saved.program.depends_on_input()
    repeated = {
        index
        for index, late in enumerate(depends)
        if not late or all(not dtype.startswith("float") for _, dtype in specs[index])
    }
    kept, notes = _float_outputs(saved, specs, depends, path)
    program = Program(
        saved.program.operations, kept, saved.program.inputs, saved.program.weights, saved.program.constants
    )
    inputs = [
        keras.Input(shape[1:], name=valid_name(name), dtype="float32")
        for name, shape in zip(saved.inputs, shapes, strict=True)
    ]
    tensors: dict[Ref, Any] = {
        Ref("input", index): _of_bytes(tensor) if index in saved.whole else tensor
        for index, tensor in enumerate(inputs)
    }
    variables: dict[int, Any] = {}
    for part in parts_of(program, saved.names, repeated):
        with keras.name_scope(part.name):
            for place in part.weights:
                if place not in variables:
                    variables[place] = keras.Variable(saved.values[place], dtype="float32", name=f"weight_{place}")
        layer = SavedModelLayer(
            part.program,
            [specs[ref.place][ref.output] for ref in part.gives],
            [variables[place] for place in part.weights],
            part.name,
        )
        given = [tensors[ref] for ref in part.reads]
        results = layer(given[0] if len(given) == 1 else given)
        results = results if isinstance(results, (list, tuple)) else [results]
        tensors |= dict(zip(part.gives, results, strict=True))
    names = {ref: name for ref, name in zip(saved.program.outputs, saved.outputs, strict=True) if ref in kept}
    taken = {*saved.names, *saved.inputs}
    ends = [_named(tensors[ref], names[ref], taken) for ref in kept]
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, ends[0] if len(ends) == 1 else ends,
                       name=valid_name(path.name)), notes  # fmt: skip


def _of_bytes(tensor: Any) -> Any:
    """Return an input of whole numbers: pixels of 0 to 255, whatever the model does to them."""
    import keras

    layer = keras.layers.Identity(name=f"{tensor._keras_history.operation.name}_of_whole_numbers")
    layer.scales_pixels = layer.passes_pixels = True
    return layer(tensor)


def _named(tensor: Any, name: str, taken: set[str]) -> Any:
    """Return an output under its name in the signature, if that says more than the layer's."""
    import keras

    operation = tensor._keras_history.operation
    if isinstance(operation, keras.layers.InputLayer):
        return keras.layers.Identity(name=f"{operation.name}_output")(tensor)
    if _GENERIC.fullmatch(name) or valid_name(name) in taken:
        return tensor
    taken.add(valid_name(name))
    return keras.layers.Identity(name=valid_name(name))(tensor)


def _specs(program: Program, shapes: Sequence[Shape], path: Path) -> list[list[tuple[Shape, str]]]:
    """Return shape and dtype of every output of every operation, as TensorFlow infers them without computing."""
    import tensorflow as tf
    from tensorflow.python.framework.func_graph import FuncGraph

    from xxdeploy.convert.user_model.saved_model.forms import CHECKS

    specs: dict[int, list[tuple[Shape, str]]] = {}
    changes = [
        late or early for late, early in zip(program.depends_on_input(), program.depends_on_weights(), strict=True)
    ]

    def seen(index: int, outputs: list[Any]) -> None:
        # TensorFlow computes what depends on constants only, if the shape of another tensor depends on it.
        most = MAX_ACTIVATION if changes[index] else MAX_REPEATED
        for tensor in outputs:
            sizes = [size for size in tensor.shape if size is not None] if tensor.shape.rank else []
            if math.prod(sizes) > most:
                raise ConversionError(
                    f"{program.operations[index].path} of {path} has {math.prod(sizes):,} outputs for one image, over "
                    f"{most:,}",
                    hint="choose a smaller --input-size, or check the layer",
                    code="activations-too-large",
                )
        specs[index] = [
            (tuple(tensor.shape) if tensor.shape.rank is not None else (None, None), tensor.dtype.name)
            for tensor in outputs
        ]

    with FuncGraph("shapes", capture_by_value=True).as_default():
        inputs = [tf.compat.v1.placeholder(tf.float32, shape) for shape in shapes]
        weights = {index: tf.compat.v1.placeholder(tf.float32, shape) for index, shape in enumerate(program.weights)}
        run(tf, program, inputs, weights, forms=CHECKS, seen=seen)
    return [specs.get(index, []) for index in range(len(program.operations))]


def _float_outputs(
    saved: SavedSignature, specs: Sequence[Sequence[tuple[Shape, str]]], depends: Sequence[bool], path: Path
) -> tuple[tuple[Ref, ...], list[str]]:
    """Return the outputs of floats, and notes on the others."""
    kept: list[Ref] = []
    notes = []
    for name, ref in zip(saved.outputs, saved.program.outputs, strict=True):
        dtype = specs[ref.place][ref.output][1] if ref.kind == "result" else "float32" if ref.kind == "input" else ""
        if not dtype.startswith("float"):
            notes.append(f"the output {name} is left out: its type is {dtype or 'a constant'}, not float")
        elif ref.kind == "result" and not depends[ref.place]:
            notes.append(f"the output {name} is left out: it does not depend on the input")
        elif ref not in kept:
            kept.append(ref)
    if not kept:
        raise UsageError(
            f"the signature {saved.name} of {path} has no output that a bundle can have: {'; '.join(notes)}",
            hint="choose a signature that returns floats (--signature NAME), or save one, where the model was made",
            code="saved-model-output",
        )
    return tuple(kept), notes


def check_free_batch(model: Any, fixed: int, path: Path) -> None:
    """Refuse a model saved for one batch size whose answers for a picture depend on the batch."""
    random = np.random.default_rng(0)
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    batches = [random.uniform(0, 1, (3, *shape)).astype(np.float32) for shape in shapes]
    import tensorflow as tf

    def answers(pictures: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        results = model(pictures[0] if len(pictures) == 1 else pictures, training=False)
        return [np.asarray(result) for result in tf.nest.flatten(results)]

    try:
        together = answers(batches)
        alone = [answers([batch[index : index + 1] for batch in batches]) for index in range(3)]
        same = all(
            whole.shape[0] == 3 and np.allclose(whole[index], part[0], rtol=1e-3, atol=1e-5)
            for index, parts in enumerate(alone)
            for whole, part in zip(together, parts, strict=True)
        )
    except Exception:  # noqa: BLE001 - TensorFlow refuses the batch by errors of many classes
        same = False
    if not same:
        raise UsageError(
            f"{path} was saved for batches of {fixed}, and its graph does not work with other batches",
            hint="where the model was made, save it with a free batch: keras.Input((HEIGHT, WIDTH, 3)) or "
            "tf.TensorSpec((None, HEIGHT, WIDTH, 3))",
            code="saved-model-batch",
        )
