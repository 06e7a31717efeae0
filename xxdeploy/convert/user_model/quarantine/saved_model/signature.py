"""The signatures of a SavedModel: named functions from tensors to tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.convert.user_model.quarantine.saved_model import message
from xxdeploy.errors import UsageError

DEFAULT = "serving_default"
_OWN = "__saved_model_"  # TensorFlow's own entries: initializers, training
DTYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 6: "int8", 7: "string", 9: "int64", 10: "bool"} | {
    14: "bfloat16",
    17: "uint16",
    19: "float16",
    20: "resource",
    21: "variant",
}
"""Names of ``tf.DType`` by their numbers, for messages."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a signature: its name, the ``node:0`` that holds it, the number of its type, its shape."""

    name: str
    reference: str
    dtype: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature with its inputs and outputs, ordered by their names."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def names_of(definitions: Mapping[str, memoryview]) -> list[str]:
    """Return the names of the signatures that can be called."""
    return sorted(name for name in definitions if not name.startswith(_OWN))


def choose_signature(definitions: Mapping[str, memoryview], asked: str | None, path: Path) -> Signature:
    """Return the signature ``asked`` for, else ``serving_default``, else the only one.

    Raises
    ------
    UsageError
        ``no-signature``: there is none of that name, none at all, or several and none is asked for.
        ``signature-input``: an input or output is text, sparse or ragged.
    """
    names = names_of(definitions)
    chosen = asked or (DEFAULT if DEFAULT in names else names[0] if len(names) == 1 else None)
    if not names:
        raise UsageError(
            f"{path} has no signature, so it does not say how it is called",
            hint="where TensorFlow loads it, save it again with one: tf.saved_model.save(model, FOLDER, signatures="
            "tf.function(model).get_concrete_function(tf.TensorSpec((None, HEIGHT, WIDTH, 3), tf.float32)))",
            code="no-signature",
        )
    if chosen not in names:
        problem = f"has no signature {asked!r}" if asked else "has several signatures and no serving_default"
        raise UsageError(f"{path} {problem}", hint=f"add --signature {' or '.join(names[:8])}", code="no-signature")
    fields = message.read(definitions[chosen])
    inputs, outputs = (
        tuple(_tensor(name, view, chosen, path) for name, view in sorted(message.mapping(fields, number).items()))
        for number in (1, 2)
    )
    if not inputs or not outputs:
        raise UsageError(
            f"the signature {chosen} of {path} has {len(inputs)} inputs and {len(outputs)} outputs",
            hint=f"choose another one of {', '.join(names[:8])}: --signature NAME",
            code="no-signature",
        )
    return Signature(chosen, inputs, outputs)


def _tensor(name: str, view: memoryview, signature: str, path: Path) -> Tensor:
    fields = message.read(view)
    dtype, reference = message.integer(fields, 2), message.text(fields, 1)
    kind = DTYPES.get(dtype, f"of the type {dtype}")
    if not reference or kind in ("string", "resource", "variant") or kind.startswith("of the type"):
        kind = kind if reference else "sparse or ragged"
        raise UsageError(
            f"{name!r} of the signature {signature} of {path} is {kind}, not a tensor of numbers",
            hint="choose a signature that takes pixels and returns numbers (--signature NAME), or save the model again "
            "as a .keras file and export that",
            code="signature-input",
        )
    shape = message.shape_of(message.inner(fields, 3))
    return Tensor(name, reference, dtype, None if shape is None else tuple(shape))
