"""Results for a reader: one page that opens offline, or the figures as files."""

from mfed_ray.report.write import FORMATS, write_report

__all__ = ["FORMATS", "write_report"]
