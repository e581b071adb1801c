import pytest

from mfed_ray.report.words import explained, listed, number, plural, some, symbolic


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (12.0, "12"),
        (123456.7, "123457"),
        (1e-5, "1e-05"),
        (-3000.4, "-3000"),
        (float("nan"), "none"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_symbols_of_the_paper() -> None:
    assert symbolic("mfed correlation_threshold=auto decoder_proximal_weight=0.1") == "mfed τ=auto λ=0.1"
    assert symbolic("mfed my_decoder_proximal_weight=1") == "mfed my_decoder_proximal_weight=1"
    assert explained(["mfed encoder_proximal_weight=1"]) == " μ is encoder_proximal_weight."
    assert explained(["local"]) == ""


def test_lists() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert some(["a", "b", "c"], 2) == "a, b and 1 more"
    assert (plural(1, "run"), plural(2, "run")) == ("1 run", "2 runs")
