"""``manifest.json``: the description of a bundle. Read strictly, because it comes from elsewhere.

The schema is explained key by key in ``docs/reference/bundle-format.md``. Anything that is not exactly as
written there is a ``BundleError``; nothing is guessed, defaulted or ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from xxdeploy.errors import BundleError, UsageError
from xxdeploy.runtime.bundle.records import (
    MANIFEST,
    FileEntry,
    GoldenSpec,
    MoreInput,
    MoreOutput,
    Variant,
    check_path,
    check_word,
)
from xxdeploy.runtime.bundle.strict_json import JsonValue, as_object, as_record, parse, typed, wrong_value
from xxdeploy.runtime.bundle.tasks import SCHEMA_WITH_TASKS, TASKS, check_blank, check_output_range, check_task
from xxdeploy.runtime.bundle.tensors import InputTensor, OutputTensor
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.scaling import float_from
from xxdeploy.runtime.inputs import ArrayInput, InputForm, SeveralInputs, one_picture, parts_of

__all__ = ["MANIFEST", "FileEntry", "GoldenSpec", "Manifest", "MoreInput", "MoreOutput", "Variant", "schema_for"]

SCHEMA_VERSION = 1
SCHEMA_WITH_MORE_OUTPUTS = 2
"""Schema 1 and one key more. Schemas below 5 have the lowest number that can say the rest of the manifest."""
SCHEMA_WITH_SIZING = 3
"""Schema 2 (with any number of outputs), and how pictures are resampled, cropped and padded."""
SCHEMA_WITH_INPUTS = SCHEMA_WITH_TASKS
"""Schema 3, and other tasks, and several inputs, or one that is no picture."""
SCHEMA = 5
"""Schema 4 with the inputs and outputs of each model file. New bundles have it; those of the others stay readable."""
SCHEMAS = (SCHEMA_VERSION, SCHEMA_WITH_MORE_OUTPUTS, SCHEMA_WITH_SIZING, SCHEMA_WITH_TASKS, SCHEMA)
KEYS_SINCE: Mapping[str, Mapping[str, int]] = {
    "Manifest": {
        "more_outputs": SCHEMA_WITH_MORE_OUTPUTS,
        "output_range": SCHEMA_WITH_TASKS,
        "blank": SCHEMA_WITH_TASKS,
        "more_inputs": SCHEMA_WITH_INPUTS,
    },
    "Variant": {"inputs": SCHEMA, "outputs": SCHEMA},
}
"""The keys that not every schema has, with the first one that does; from then on they are required."""
MAX_FILES = 256
MAX_OUTPUTS = 64


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that a device must know about a bundle.

    ``task`` is a name of ``tasks.TASKS``: ``classification`` (output: probabilities (n, classes)), ``features`` or
    ``values`` (output: (n, ...); ``classes`` is 0), ``image`` (output: (n, h, w, channels); ``classes`` is 0, and
    ``output_range`` holds the values of black and white, or ``classes`` counts those of a mask) or ``sequence``
    (output: probabilities (n, steps, classes); ``blank`` is the class of CTC that has no text).
    ``labels`` is the path of a UTF-8 text file, one class a line, or None: then classes are called by their index.
    ``variants`` come in order of preference.
    ``files`` lists every file but the manifest; it is empty only before ``bundle.pack``. ``tools``
    (versions), ``source`` (which model, weights, options) and ``evidence`` (parity, accuracy, steps)
    are for people and carry reproducible facts only: no dates, no seconds. ``output_name``, ``task``, ``classes``,
    ``labels`` and ``golden`` are about the first output, the one to predict with; ``more_outputs`` about the others.
    ``input_name``, ``preprocess`` and ``golden.inputs`` are about the first input, ``more_inputs`` about the others.
    ``schema`` is 5, or in older bundles that of :func:`schema_for`.

    Raises
    ------
    BundleError
        Codes ``manifest-*`` and ``unknown-schema``.
    """

    schema: int
    name: str
    task: str
    input_name: str
    output_name: str
    preprocess: Preprocess | ArrayInput
    classes: int
    labels: str | None
    variants: tuple[Variant, ...]
    golden: GoldenSpec
    files: tuple[FileEntry, ...]
    tools: Mapping[str, str] = field(repr=False)
    source: Mapping[str, JsonValue] = field(repr=False)
    evidence: Mapping[str, JsonValue] = field(repr=False)
    more_outputs: tuple[MoreOutput, ...] = ()
    output_range: tuple[float, float] | None = None
    blank: int | None = None
    more_inputs: tuple[MoreInput, ...] = ()

    def __post_init__(self) -> None:
        if self.schema not in SCHEMAS:
            raise _unknown_schema(self.schema)
        check_word(self.name, "name")
        if not self.input_name or not self.output_name:
            raise wrong_value("input_name and output_name must not be empty")
        check_task(self.task, self.classes)
        check_output_range(self.task, self.classes, self.output_range)
        check_blank(self.task, self.classes, self.blank, self.labels)
        if self.labels is not None:
            check_path(self.labels)
            if not self.classes:
                raise wrong_value(f"labels name classes, and there are none with the task {self.task}")
        if not self.variants:
            raise wrong_value("there must be at least one variant")
        if len(self.files) > MAX_FILES:
            raise wrong_value(f"there may be at most {MAX_FILES} files, not {len(self.files)}")
        lowest = schema_for(self.form, self.more_outputs, self.task)
        if self.schema not in (lowest, SCHEMA) or len(self.output_names) > MAX_OUTPUTS:
            how = ", ".join(f"{key} {value!r}" for key, value in self.form.to_json().items())
            outputs = f"{len(self.output_names)} outputs, the task {self.task}"
            raise wrong_value(f"schema {self.schema} with {outputs} and {how}")
        for variant in self.variants:
            self._check_tensors(variant)
        for output in self.more_outputs:
            if len(output.golden) != len(self.variants):
                raise wrong_value(f"the output {output.name} needs a golden file for each variant")
        _check_distinct((*self.input_names, *self.output_names), "input or output")
        _check_distinct((variant.name for variant in self.variants), "variant")
        _check_distinct((entry.path for entry in self.files), "file")
        _check_no_file_is_a_folder(self.files)

    def _check_tensors(self, variant: Variant) -> None:
        """Refuse a variant whose inputs and outputs are not those of the manifest; top-k adds an output of classes."""
        if self.schema < SCHEMA:
            if variant.inputs or variant.outputs:
                raise wrong_value(f"only schema {SCHEMA} lists the inputs and outputs of the variant {variant.name}")
            return
        inputs, outputs = (tuple(x.name for x in tensors) for tensors in (variant.inputs, variant.outputs))
        if inputs != self.input_names or outputs[: len(self.output_names)] != self.output_names:
            raise wrong_value(f"the variant {variant.name} maps {', '.join(inputs)[:80]} to {', '.join(outputs)[:80]}")
        for tensor, (_, part) in zip(variant.inputs, parts_of(self.form), strict=True):
            tensor.check_part(part)

    @property
    def form(self) -> InputForm:
        """How samples become what the model reads; ``BundleError`` ``manifest-value``: two inputs have one name."""
        if not self.more_inputs:
            return self.preprocess
        try:
            return SeveralInputs(
                ((self.input_name, self.preprocess), *((more.name, more.preprocess) for more in self.more_inputs))
            )
        except UsageError as error:
            raise wrong_value(error.message) from error

    @property
    def golden_inputs(self) -> tuple[str, ...]:
        """Return the path of the golden values of each input."""
        return self.golden.inputs, *(more.golden for more in self.more_inputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Return the names of all inputs, in the order of the graph."""
        return self.input_name, *(more.name for more in self.more_inputs)

    @property
    def picture(self) -> Preprocess:
        """Return the preprocessing of a bundle of one picture; ``UsageError`` ``not-one-picture`` for any other."""
        return one_picture(self.form, self.name)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of all outputs, in the order of the graph."""
        return self.output_name, *(output.name for output in self.more_outputs)

    def to_json(self) -> str:
        """Serialize with sorted keys: equal manifests give equal text, which is UTF-8.

        ``?`` stands for bytes of a file's name that are not UTF-8.

        ``BundleError`` ``manifest-value``: ``source`` or ``evidence`` holds NaN, infinity or no JSON value.
        """
        document = {key: getattr(self, key) for key in _keys(Manifest, self.schema)}
        plain = partial(_plain, schema=self.schema)
        try:
            text = json.dumps(document, default=plain, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
            return text.encode("utf-8", "replace").decode() + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise wrong_value(f"source or evidence cannot be written as JSON: {error}") from error

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read a manifest; every file that it names must be listed in ``files``.

        Raises
        ------
        BundleError
            ``manifest-json`` (no JSON, NaN, a key twice, nested too deep), ``manifest-too-large``,
            ``manifest-text`` (control characters), ``unknown-schema``, ``manifest-keys``,
            ``manifest-value``, ``manifest-path``, ``manifest-duplicate``, ``manifest-unlisted``.
        """
        top = as_object(parse(text), "the manifest")
        version = top.get("schema")  # first: another version has other keys
        if type(version) is not int or version not in SCHEMAS:
            raise _unknown_schema(version)
        record = as_record(top, _keys(cls, version), "the manifest")
        manifest: Manifest = _read(cls, record, {**_READERS, "tuple[Variant, ...]": _list(_record(Variant, version))})
        listed = {entry.path for entry in manifest.files}
        named = [*manifest.golden_inputs, *(path for v in manifest.variants for path in (v.model, v.golden))]
        named += [path for output in manifest.more_outputs for path in output.golden]
        for path in named if manifest.labels is None else [*named, manifest.labels]:
            if path not in listed:
                raise BundleError(
                    f"the manifest uses {path} but does not list it, so nothing vouches for it",
                    hint="export the bundle again",
                    code="manifest-unlisted",
                )
        return manifest


def schema_for(form: InputForm, more_outputs: Sequence[MoreOutput] = (), task: str = "classification") -> int:
    """Return the lowest schema that can say these: a reader that does not know them then refuses the bundle."""
    return max(
        schema_of(form),
        SCHEMA_WITH_MORE_OUTPUTS if more_outputs else SCHEMA_VERSION,
        *(TASKS[name].schema for name in (task, *(output.task for output in more_outputs))),
    )


def schema_of(form: InputForm) -> int:
    """Return the lowest schema that can say what a model reads."""
    if not isinstance(form, Preprocess):
        return SCHEMA_WITH_INPUTS
    return SCHEMA_WITH_SIZING if form.is_new else SCHEMA_VERSION


def _keys(kind: Any, schema: int) -> list[str]:
    """Return the keys of a record of this class in a manifest with this schema."""
    since = KEYS_SINCE.get(kind.__name__, {})
    return [key for key in kind.__dataclass_fields__ if since.get(key, SCHEMA_VERSION) <= schema]


def _plain(value: object, *, schema: int) -> object:
    """Return a part of a manifest as JSON has it."""
    if isinstance(value, Preprocess | ArrayInput):
        return value.to_json()
    if isinstance(value, FileEntry | Variant | GoldenSpec | MoreOutput | MoreInput | InputTensor | OutputTensor):
        return {key: getattr(value, key) for key in _keys(type(value), schema)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


Reader = Callable[[JsonValue, str], Any]


def _read(kind: Any, record: Mapping[str, JsonValue], readers: Mapping[str, Reader], prefix: str = "") -> Any:
    """Make a ``kind`` of a record, each value read as the annotation of its field asks."""
    fields = kind.__dataclass_fields__
    return kind(**{key: readers[fields[key].type](value, prefix + key) for key, value in record.items()})


def _record(kind: Any, schema: int = SCHEMA) -> Reader:
    keys = _keys(kind, schema)
    return lambda value, where: _read(kind, as_record(value, keys, where), _READERS, f"{where}.")


def _list(reader: Reader) -> Callable[[JsonValue, str], tuple[Any, ...]]:
    return lambda value, where: tuple(reader(item, where.removesuffix("s")) for item in typed(value, list, where))


def _preprocess(value: JsonValue, _: str) -> Preprocess | ArrayInput:
    try:
        is_array = isinstance(value, dict) and "shape" in value
        return ArrayInput.from_json(value) if is_array else Preprocess.from_json(value)
    except UsageError as error:
        raise wrong_value(error.message) from error


def _text(value: JsonValue, where: str) -> str:
    return typed(value, str, where)


def _number(value: JsonValue, where: str) -> float:
    return typed(float_from(value), float, where)


def _pair(value: JsonValue, where: str) -> tuple[float, float]:
    numbers = [_number(item, where) for item in typed(value, list, where)]
    if len(numbers) != 2:
        raise wrong_value(f"{where} must have 2 numbers, not {len(numbers)}")
    return numbers[0], numbers[1]


_READERS: Mapping[str, Reader] = {
    "str": _text,
    "str | None": lambda value, where: None if value is None else _text(value, where),
    "int": lambda value, where: typed(value, int, where),
    "int | None": lambda value, where: None if value is None else typed(value, int, where),
    "float": _number,
    "Preprocess | ArrayInput": _preprocess,
    "GoldenSpec": _record(GoldenSpec),
    "tuple[float, float] | None": lambda value, where: None if value is None else _pair(value, where),
    "tuple[str, ...]": _list(_text),
    "tuple[int | None, ...]": _list(lambda value, where: None if value is None else typed(value, int, where)),
    "tuple[InputTensor, ...]": _list(_record(InputTensor)),
    "tuple[OutputTensor, ...]": _list(_record(OutputTensor)),
    "tuple[FileEntry, ...]": _list(_record(FileEntry)),
    "tuple[MoreOutput, ...]": _list(_record(MoreOutput)),
    "tuple[MoreInput, ...]": _list(_record(MoreInput)),
    "Mapping[str, str]": lambda value, where: {
        key: _text(item, f"{where}.{key}") for key, item in as_object(value, where).items()
    },
    "Mapping[str, JsonValue]": as_object,
}
"""How a field is read, by its annotation."""


def _check_distinct(names: Iterable[str], kind: str) -> None:
    """Refuse names that differ in case only: some file systems would hold one file for two entries."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise _duplicate(f"two entries for the {kind} {name}")
        seen.add(name.casefold())


def _check_no_file_is_a_folder(files: tuple[FileEntry, ...]) -> None:
    paths = {entry.path.casefold() for entry in files}
    for path in paths:
        parts = path.split("/")
        if any("/".join(parts[:end]) in paths for end in range(1, len(parts))):
            raise _duplicate(f"a file where {path} needs a folder")


def _duplicate(problem: str) -> BundleError:
    return BundleError(f"the manifest has {problem}", hint="export it again", code="manifest-duplicate")


def _unknown_schema(version: object) -> BundleError:
    known = f"{', '.join(map(str, SCHEMAS[:-1]))} and {SCHEMAS[-1]}"
    return BundleError(
        f"the bundle has schema {str(version)[:40]}; this xxdeploy reads {known}",
        hint="update xxdeploy on this device, or export the bundle with the version that is here",
        code="unknown-schema",
    )
