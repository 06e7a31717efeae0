"""The report: one HTML page that opens offline. The only home of jinja2; see docs/explanation/decisions/0009."""

from xxdeploy.report.page import REPORT, Changed, ClassCount, Measured, Pair, Timing, render_report

__all__ = ["REPORT", "Changed", "ClassCount", "Measured", "Pair", "Timing", "render_report"]
