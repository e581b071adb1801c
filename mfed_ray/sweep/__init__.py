"""Sweeps: one experiment at many points, as trials of Ray Tune."""

from mfed_ray.sweep.schema import Sweep, load_sweep, parse_sweep

__all__ = ["Sweep", "load_sweep", "parse_sweep"]
