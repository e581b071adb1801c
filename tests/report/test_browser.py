"""The page as a browser shows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfed_ray.report import write_report
from mfed_ray.results.loading import Results


@pytest.mark.parametrize("width", [390, 1400])
def test_it_fits_and_fetches_nothing(browser: Any, real_page: Path, width: int) -> None:
    browser.open(real_page, width)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    box = "(({width, height}) => [width, height])(one.getBoundingClientRect())"
    sizes = browser.evaluate(f"[...document.querySelectorAll('figure, svg[role], img')].map(one => {box})")
    assert len(sizes) > 30
    assert min(min(size) for size in sizes) > 50
    assert browser.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    said = {event.get("method") for event in browser.events}
    assert not said & {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
    requested = [event["params"]["request"]["url"] for event in browser.events
                 if event.get("method") == "Network.requestWillBeSent"]  # fmt: skip
    assert [url for url in requested if not url.startswith("data:")] == [real_page.as_uri()]


def test_text_in_plots_can_be_read_on_a_phone(browser: Any, real_page: Path) -> None:
    """Letters of an axis are 8 points of a plot 245 points wide: above 10 pixels where that fills 390."""
    browser.open(real_page, 390)
    height = "Math.max(...[...document.querySelectorAll('svg text')].map(one => one.getBoundingClientRect().height))"
    assert browser.evaluate(height) > 10


def test_long_names_do_not_widen_the_page(browser: Any, make_results: Callable[[Any], Results], tmp_path: Path) -> None:
    values = {"saliency": [[0, 0.5]]}
    runs = [{"experiment": "x" * 80, "algorithm": "mfed", "seed": 0, "values": values, "keys": {"data.root": "y" * 90}}]
    write_report(make_results(runs), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 390)
    assert browser.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_printed_figures_stay_on_their_page(browser: Any, real_page: Path) -> None:
    browser.open(real_page, 1400)
    browser.call("Emulation.setEmulatedMedia", media="print")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert browser.evaluate(style.format("figure", "breakInside")) == "avoid"
    assert browser.evaluate(style.format("thead th", "position")) == "static"
    assert browser.evaluate(style.format(".scroll", "overflowX")) == "visible"
    browser.call("Emulation.setEmulatedMedia", media="")
