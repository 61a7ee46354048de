"""What a person sees of a run: one self-contained HTML page, and tables for the terminal."""

from biotilt.report.data import ReportData
from biotilt.report.page import render_report, report_html
from biotilt.report.shown import shown_rows
from biotilt.report.terminal import (
    aggregate_table,
    checks_lines,
    comparison_table,
    measures_table,
    panel_table,
    panel_text,
    verdict_text,
)
from biotilt.report.words import plain_summary, verdict_words

__all__ = [
    "ReportData",
    "aggregate_table",
    "checks_lines",
    "comparison_table",
    "measures_table",
    "panel_table",
    "panel_text",
    "plain_summary",
    "render_report",
    "report_html",
    "shown_rows",
    "verdict_text",
    "verdict_words",
]
