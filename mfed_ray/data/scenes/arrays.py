"""The array type of the renderer."""

from typing import Any

from numpy.typing import NDArray

Floats = NDArray[Any]
"""Float32 arrays; NumPy's stubs would call their products with Python numbers float64."""
