"""From a name to a verified bundle: the whole story. Steps meet here and nowhere else.

Heavy libraries are imported when a step needs them, so that ``verify_bundle`` works on a device.
"""

from xxdeploy.pipeline.plan import ExportPlan
from xxdeploy.pipeline.results import ExportResult, TableRow, VerifyResult
from xxdeploy.pipeline.story import export
from xxdeploy.pipeline.verify import verify_bundle

__all__ = ["ExportPlan", "ExportResult", "TableRow", "VerifyResult", "export", "verify_bundle"]
