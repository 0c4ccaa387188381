"""The report: a page per scored input that plays it beside its timeline, and an index of all.

`write_report(scores, folder)` is the whole of it. Pages load nothing from anywhere: styles, programs, data and pictures
are in them, and their content security policy allows nothing else; see `mmsa.scoring.report.player` for the media.
"""

from mmsa.scoring.report.writer import Report, write_report

__all__ = ["Report", "write_report"]
