"""Result tables: long form on disk, pandas in memory."""

from mfed_ray.results.load import Results, load, load_results, shortened
from mfed_ray.results.render import FORMATS, cells, render
from mfed_ray.results.summary import summarise

__all__ = ["FORMATS", "Results", "cells", "load", "load_results", "render", "shortened", "summarise"]
