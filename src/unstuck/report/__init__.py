"""The same findings in several renderings; none of them measures or judges anything anew."""

from unstuck.report.report import NotChecked, Report, RunInfo

__all__ = ["NotChecked", "Report", "RunInfo"]
