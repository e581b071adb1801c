"""Result tables: long form on disk, pandas in memory."""

from mfed_ray.results.load import load_results
from mfed_ray.results.summary import FORMATS, render, summarise

__all__ = ["FORMATS", "load_results", "render", "summarise"]
