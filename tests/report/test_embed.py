import base64
import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from mfed_ray.report.embed import inline_svg, jpeg
from mfed_ray.report.style import LOOKS, add_legend, new_plot, styled


def plotted(prefix: str, label: str = "a < b") -> str:
    with styled():
        figure, axes = new_plot(2.0, "title", [label])
        axes.plot([0, 1], [0, 1], marker="o", label=label)
        axes.bar([0], [1], hatch="//", color=LOOKS[0].colour)
        add_legend(figure, [label])
        return inline_svg(figure, prefix, 'said "so" & <so>')


def test_ids_are_of_the_prefix_and_all_referred_to() -> None:
    svg = plotted("figure-1-1")
    ids = re.findall(r' id="([^"]*)"', svg)
    references = set(re.findall(r'(?:url\(#|href="#)([^)"]*)', svg))
    assert ids
    assert len(ids) == len(set(ids))
    assert set(ids) == references
    assert all(one.startswith("figure-1-1-") for one in ids)
    assert not set(ids) & set(re.findall(r' id="([^"]*)"', plotted("figure-2-1")))


def test_nothing_of_the_file_is_left() -> None:
    svg = plotted("p")
    assert svg.startswith('<svg viewBox="0 0 244.8 ')
    for word in ("http", "xmlns", "<style", "<metadata", "font-family", "ns0:"):
        assert word not in svg


def test_text_stays_text_and_is_escaped() -> None:
    svg = plotted("p")
    assert ">a &lt; b</text>" in svg
    assert 'role="img" aria-label="said &quot;so&quot; &amp; &lt;so&gt;"' in svg
    assert plotted("p", "$a_b$").count(">$a_b$</text>") == 1  # no formula is made of a name


def test_colours_and_hatches_survive() -> None:
    """An id's prefix must not get into `#0072b2`."""
    assert LOOKS[0].colour in plotted("p")
    assert "#p-0072b2" not in plotted("p")


def test_the_same_plot_gives_the_same_bytes() -> None:
    assert plotted("p") == plotted("p")


def test_a_picture_is_a_jpeg_of_its_size() -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, 15:] = 255
    kind, data = jpeg(pixels).split(",")
    assert kind == "data:image/jpeg;base64"
    decoded = imread(io.BytesIO(base64.b64decode(data)), format="jpeg")
    assert decoded.shape == (20, 30, 3)
    assert decoded.mean() == pytest.approx(127.5, abs=3)
