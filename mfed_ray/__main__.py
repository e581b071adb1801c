"""``python -m mfed_ray`` is ``mfed``."""

from mfed_ray.cli import main

main()
