"""From a name to a verified bundle. The steps meet here and nowhere else.

Heavy libraries are imported when a step needs them.
"""

from xxdeploy.exporter.options import ExportPlan
from xxdeploy.exporter.pipeline import export
from xxdeploy.exporter.result import ExportResult, TableRow, VerifyResult

__all__ = ["ExportPlan", "ExportResult", "TableRow", "VerifyResult", "export"]
