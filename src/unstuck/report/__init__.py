"""The same findings in several renderings; none of them measures or judges anything anew."""

from unstuck.report.report import Edit, NotChecked, Report, RunInfo, SourcePatch

__all__ = ["Edit", "NotChecked", "Report", "RunInfo", "SourcePatch"]
