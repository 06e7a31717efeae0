"""The report: one HTML page that opens offline. The only home of jinja2; see docs/decisions/0009."""

from xxdeploy.report.measured import Changed, LadderRung, Measured, Timing
from xxdeploy.report.page import REPORT, render_report

__all__ = ["REPORT", "Changed", "LadderRung", "Measured", "Timing", "render_report"]
