import inspect
from collections.abc import Callable

from mfed_ray.jit import jit


@jit
def triangle(n: int) -> int:
    """Sum of 1 to n."""
    total = 0
    for k in range(n + 1):
        total += k
    return total


def test_a_compiled_function_computes_the_same() -> None:
    assert triangle(4) == 10
    assert triangle(10**6) == 500000500000


def test_a_compiled_function_keeps_its_documentation() -> None:
    assert inspect.getdoc(triangle) == "Sum of 1 to n."


def test_a_function_that_cannot_be_cached_is_compiled_all_the_same() -> None:
    namespace: dict[str, Callable[[int], int]] = {}
    exec("def double(n): return 2 * n", namespace)  # noqa: S102  a function without a file, so without a cache folder
    assert jit(namespace["double"])(21) == 42
