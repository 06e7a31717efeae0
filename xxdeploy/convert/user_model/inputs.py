"""The inputs of a user's model: pictures and arrays, and the options of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xxdeploy.errors import UsageError

if TYPE_CHECKING:
    from xxdeploy.models.catalog import ModelSpec

ARRAY = "array"
"""The value of ``--preprocess`` for an input that is no picture."""
_LARGEST = 4096  # pixels a side, as in runtime/image/preprocess.py
_NAMED = re.compile(r"\s*([^=,\s][^=,]*?)\s*=\s*(.*?)\s*")
_COLORS = (1, 3)


@dataclass(frozen=True, slots=True)
class Asked:
    """``--preprocess``: ``default`` for each picture that ``named`` does not name, None where nothing is said."""

    default: str | None = None
    named: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str | None:
        """Return what is asked for an input."""
        return self.named.get(name, self.default)

    @classmethod
    def read(cls, text: str | None) -> Asked:
        """Read ``VALUE``, or ``NAME=VALUE,NAME=VALUE``, where a value without a name is the default.

        ``UsageError`` ``preprocess-names``: a name or the default twice.
        """
        if text is None or "=" not in text:
            return cls(text)
        default, named = None, dict[str, str]()
        for part in text.split(","):
            match = _NAMED.fullmatch(part)
            if match is None and default is None and part.strip() and "=" not in part:
                default = part.strip()
            elif match is not None and match[1] not in named and match[2]:
                named[match[1]] = match[2]
            else:
                raise UsageError(
                    f"--preprocess {text!r} is no list of NAME=VALUE, or it names an input twice",
                    hint="for example --preprocess left=tf,right=none",
                    code="preprocess-names",
                )
        return cls(default, named)

    def check_names(self, names: Sequence[str]) -> None:
        """Raise ``UsageError`` ``preprocess-names`` for a name that is no input."""
        if unknown := [name for name in self.named if name not in names]:
            raise UsageError(
                f"--preprocess names {', '.join(unknown)}, and the model has the inputs {', '.join(names)}",
                hint="use these names, or give one value without a name for all pictures",
                code="preprocess-names",
            )


NOTHING = Asked()


@dataclass(frozen=True, slots=True)
class UserInput:
    """One input of a user's model.

    ``name`` is unique, in characters that a manifest allows; ``shape`` is that of a sample: (height, width, channels)
    of a picture, also where the model has no axis of channels; ``scaling`` lists the layers and operations that scale
    its pixels inside the model, empty if it expects scaled ones, and for an array.
    """

    name: str
    shape: tuple[int, ...]
    is_picture: bool
    scaling: tuple[str, ...] = ()


def read_inputs(
    model: str,
    shapes: Sequence[tuple[str, Sequence[int | None]]],
    asked: Asked,
    resized: Callable[[], tuple[int, int] | None],
    looks_like: Callable[[], ModelSpec | None] = lambda: None,
) -> tuple[UserInput, ...]:
    """Return the inputs of a model from their names and ``shapes`` (with the batch axis), in the order of the model.

    A picture is (height, width, 1 or 3) or (height, width), unless ``asked`` says that it is an array. Everything else
    is an array. For hints, ``resized`` returns the size of the model's own ``Resizing`` layer, ``looks_like`` the
    network of the catalog whose layers it has.

    Raises
    ------
    UsageError
        ``no-input``; ``not-an-image``: a picture with its channels first; ``input-size-missing``: a side may have any
        size; ``bad-input-size``: a picture of more than 4096 pixels a side; ``preprocess-names``.
    """
    if not shapes:
        raise UsageError(
            f"the model {model} has no input",
            hint="build it on keras.Input(...), and save keras.Model(inputs, outputs)",
            code="no-input",
        )
    names = names_in_manifest([name for name, _ in shapes])
    asked.check_names(names)
    inputs = []
    for name, (_, whole) in zip(names, shapes, strict=True):
        shape = tuple(whole[1:])
        if asked.of(name) == ARRAY or not _may_be_picture(shape):
            inputs.append(UserInput(name, _sizes(model, name, shape), is_picture=False))
            continue
        if len(shape) == 3 and shape[2] not in _COLORS:
            raise UsageError(
                f"the input {name} of model {model} is {shape}, with its channels first",
                hint="build and save it with data_format='channels_last'; if it is no picture, add "
                f"--preprocess {ARRAY if len(shapes) == 1 else f'{name}={ARRAY}'}",
                code="not-an-image",
            )
        height, width = shape[:2]
        if height is None or width is None:
            raise _size_missing(model, resized(), looks_like())
        if max(height, width) > _LARGEST:
            raise UsageError(
                f"the input of model {model} is {height} x {width} pixels",
                hint=f"an image may have at most {_LARGEST} pixels a side: choose a smaller --input-size",
                code="bad-input-size",
            )
        channels = shape[2] if len(shape) == 3 else 1
        assert channels is not None
        inputs.append(UserInput(name, (height, width, channels), is_picture=True))
    return tuple(inputs)


def _may_be_picture(shape: tuple[int | None, ...]) -> bool:
    """Tell whether a shape is that of a picture, maybe with its channels first."""
    return len(shape) == 2 or (len(shape) == 3 and (shape[2] in _COLORS or shape[0] in _COLORS))


def _sizes(model: str, name: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    known = tuple(side for side in shape if side is not None)
    if len(known) != len(shape):
        raise UsageError(
            f"the input {name} of model {model} is {shape}, and a bundle needs the size of each side",
            hint="build the model on keras.Input with a full shape, and save it again",
            code="input-size-missing",
        )
    return known


def _size_missing(model: str, size: tuple[int, int] | None, spec: ModelSpec | None) -> UsageError:
    hint = "add --input-size N, the height and width that it was trained with"
    if size is not None:
        hint = f"add --input-size {size[0]}, the size of its own Resizing layer"
    elif spec is not None:
        hint += f" (it looks like {spec.title}, whose usual size is {spec.input_size})"
    return UsageError(
        f"the model {model} takes images of any size, and a bundle needs one size", hint=hint, code="input-size-missing"
    )


def names_in_manifest(names: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Return ``names`` in the characters that a manifest allows, none twice and none of ``taken``.

    A repeated name gets a number.
    """
    made: list[str] = []
    for given in names:
        stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", given, flags=re.ASCII).strip("-._+")[:120] or "unnamed"
        name, count = stem, 1
        while name.lower() in (*map(str.lower, taken), *map(str.lower, made)):
            count += 1
            name = f"{stem}_{count}"
        made.append(name)
    return tuple(made)


def keras_names(inputs: Any, structure: Any) -> list[str]:
    """Return the name of each of a Keras model's ``inputs``: its key where ``structure`` is a dictionary of them."""
    keys = {id(tensor): str(key) for key, tensor in structure.items()} if isinstance(structure, dict) else {}
    return [keys.get(id(tensor), tensor._keras_history.operation.name) for tensor in inputs]
