"""From a name to a verified bundle: all steps meet here.

Only the options are imported at once: the command line reads them on devices that have no exporter. ``export`` and its
libraries are imported when they are asked for.
"""

from typing import TYPE_CHECKING, Any

from xxdeploy.exporter.option_groups import (
    Budgets,
    GpuOptions,
    NetworkOptions,
    OutputOptions,
    PrecisionOptions,
    ProofOptions,
)
from xxdeploy.exporter.options import ExportOptions

if TYPE_CHECKING:
    from xxdeploy.exporter.pipeline import export
    from xxdeploy.exporter.result import ExportResult, TableRow, VerifyResult

__all__ = [
    "Budgets",
    "ExportOptions",
    "ExportResult",
    "GpuOptions",
    "NetworkOptions",
    "OutputOptions",
    "PrecisionOptions",
    "ProofOptions",
    "TableRow",
    "VerifyResult",
    "export",
]


def __getattr__(name: str) -> Any:
    if name == "export":
        from xxdeploy.exporter.pipeline import export

        return export
    if name in ("ExportResult", "TableRow", "VerifyResult"):
        from xxdeploy.exporter import result

        return getattr(result, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
