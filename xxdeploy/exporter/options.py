"""All options of an export, checked for contradictions. Each is declared in :mod:`xxdeploy.exporter.option_groups`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from xxdeploy.errors import UsageError
from xxdeploy.exporter.option_fields import (
    INT8,
    ROUNDED,
    Option,
    Value,
    flag_of,
    given_in,
    options_in,
    refuse,
)
from xxdeploy.exporter.option_groups import (
    Budgets,
    GpuOptions,
    NetworkOptions,
    OutputOptions,
    PrecisionOptions,
    ProofOptions,
)
from xxdeploy.models.catalog import BuildOptions


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """All options of an export, checked for contradictions. No file is read.

    Raises
    ------
    UsageError
        ``two-precisions``; ``int8-only``, ``cpu-and-target`` and ``target-missing`` for options outside their scope.
    """

    network: NetworkOptions = field(default_factory=NetworkOptions)
    precision: PrecisionOptions = field(default_factory=PrecisionOptions)
    gpu: GpuOptions = field(default_factory=GpuOptions)
    proof: ProofOptions = field(default_factory=ProofOptions)
    budgets: Budgets = field(default_factory=Budgets)
    output: OutputOptions = field(default_factory=OutputOptions)

    @classmethod
    def of(cls, precision: str = "fp32", **values: Any) -> ExportOptions:
        """Build the options from a precision and the fields of all groups: ``of("int8", weights="sample", top_k=5)``.

        ``UsageError`` ``unknown-precision``.
        """
        return cls().changed(**flag_of(precision), **values)

    def changed(self, **values: Any) -> ExportOptions:
        """Return the options with some fields of their groups replaced."""
        if unknown := set(values) - set(_GROUPS):
            raise TypeError(f"there are no options {', '.join(sorted(unknown))}")
        groups: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            groups.setdefault(_GROUPS[name], {})[name] = value
        return replace(self, **{group: replace(getattr(self, group), **new) for group, new in groups.items()})

    def __post_init__(self) -> None:
        if self.precision.int8 and self.precision.fp16:
            raise UsageError(
                "--int8 and --fp16 are given",
                hint="leave one of them out; --precisions fp16,int8 makes a bundle of each",
                code="two-precisions",
            )
        given, precision = self.given(), self.precision.name
        for allowed in (ROUNDED, INT8):
            names = [name.upper() for name in reversed(allowed)]
            refuse(
                (asked for asked in given if asked.scope.precisions == allowed and not asked.accepted_by(precision)),
                f"to {' and '.join(names)} only, and this export is {precision.upper()}",
                hint=f"add --{' or --'.join(names).lower()}, or leave out",
                code="int8-only",
            )
        if self.gpu.engine is None:
            refuse(
                (asked for asked in given if asked.scope.target == "gpu"),
                "to an engine, and none is built",
                hint="add --target tensorrt-rtx or --target tensorrt, or leave out",
                code="target-missing",
            )
        if self.gpu.target != "web":
            refuse(
                (asked for asked in given if asked.scope.target == "web"),
                "to --target web only",
                hint="add --target web, or leave out",
                code="target-missing",
            )
        if self.gpu.target != "cpu":
            what = "writes no ONNX file" if self.gpu.engine is None else "is a GPU"
            refuse(
                (asked for asked in given if asked.scope.target == "cpu"),
                f"to ONNX files for processors only, and --target {self.gpu.target} {what}",
                hint="make an export without --target in addition, or leave out",
                code="cpu-and-target",
            )

    @property
    def has_litert(self) -> bool:
        """Whether the bundle has a LiteRT file, with or without ONNX files."""
        return self.gpu.only_litert or self.output.more == "litert"

    def check_source(self, source: Literal["catalog", "file"], *, hint: str) -> None:
        """Raise ``UsageError`` ``model-file-only`` or ``catalog-only`` for options of the other kind of source."""
        kinds = {"catalog": "networks of the catalog", "file": "model files"}
        other = "file" if source == "catalog" else "catalog"
        refuse(
            (asked for asked in self.given() if asked.scope.source == other),
            f"to {kinds[other]}, not to {kinds[source]}",
            hint=f"{hint}, or leave out",
            code="model-file-only" if source == "catalog" else "catalog-only",
        )

    def given(self) -> dict[Option, Value]:
        """Return the options that differ from their defaults."""
        return given_in(getattr(self, group.name) for group in fields(self))

    @property
    def build(self) -> BuildOptions:
        """Return the options with which Keras builds a network of the catalog."""
        network = self.network
        seed = self.precision.seed or 0
        return BuildOptions(
            network.alpha, network.input_size, network.classes, not network.no_top, network.pooling, seed
        )


GROUPS: dict[str, type] = {group.name: type(getattr(ExportOptions(), group.name)) for group in fields(ExportOptions)}
"""The groups of the help screen: attribute of :class:`ExportOptions` and class."""
OPTIONS = {declared.name: declared for group in GROUPS.values() for declared in options_in(group)}
"""Every option by its name on the command line."""
_GROUPS = {declared.field: name for name, group in GROUPS.items() for declared in options_in(group)}


def option_name(field: str) -> str:
    """Return the name on the command line, without dashes, of a field of the options."""
    return next((known.name for known in OPTIONS.values() if known.field == field), field.replace("_", "-"))
