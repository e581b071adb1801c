"""The whole page, from real runs and from names that are out for trouble."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mfed_ray.report import write_report
from mfed_ray.results.loading import Results

FIGURES = [
    "Learning curves",
    "Delta_m over hyper-parameters",
    "Correlation of task groups",
    "Agreement and steps by block",
    "Seconds and bytes by phase",
    "Clients at the last round",
]


class Page(HTMLParser):
    """What a page holds: every tag with its attributes, and the text by the tag that it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.figures: list[list[tuple[str, Mapping[str, str | None]]]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "figure":
            self.figures.append([])
        if "figure" in self._open:
            self.figures[-1].append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data.strip()))

    def said(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]


@pytest.fixture(scope="module")
def text(real_page: Path) -> str:
    return real_page.read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_headings_and_language(page: Page) -> None:
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert page.said("h1") == ["Results of tiny"]
    titles = [title for title in page.said("h3") if title != "Summary"]
    assert titles[:6] == FIGURES
    assert sorted(title.split(" ")[2] for title in titles[6:]) == ["local", "mfed"]
    assert page.said("a")[2:] == titles  # after the experiment and its summary


def test_every_figure_shows_something_with_words_for_it(page: Page) -> None:
    assert len(page.figures) == 8
    for figure in page.figures:
        shown = [attributes for tag, attributes in figure if tag in ("svg", "img")]
        assert shown
        assert all(re.search(r"\d", attributes["aria-label"] or "") for tag, attributes in figure if tag == "svg")
        assert all(attributes["alt"] for tag, attributes in figure if tag == "img")
    captions = page.said("figcaption")
    assert len(captions) == 8
    assert [caption for caption in captions[:6] if "1 seed" not in caption] == []


def test_pictures_stand_beside_each_other(page: Page) -> None:
    """For each of three tasks: image, ground truth, before, after; for two algorithms."""
    pictures = [attributes["alt"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2 * 3 * 4
    assert re.fullmatch(r"Image generated_\d+, which semantic_segmentation-0 holds out\.", pictures[0])
    assert pictures[1] == "Ground truth of semantic segmentation drawn over it."
    told = r"over all images that the client holds out miou \(higher is better\) 0\.\d+\."
    assert re.fullmatch(rf"Prediction of the initial model; {told}", pictures[2])
    assert re.fullmatch(rf"Prediction after round 1; {told}", pictures[3])


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    values = [(name, value or "") for _, attributes in page.tags for name, value in attributes.items()]
    linked = {value[1:] for name, value in values if name == "href" and value.startswith("#")}
    labelled = {value for name, value in values if name == "aria-labelledby"}
    assert linked | labelled <= set(ids)


def test_nothing_is_fetched(page: Page, text: str) -> None:
    assert "http" not in text.replace("http-equiv", "")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    policy = next(one["content"] for tag, one in page.tags if one.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_the_table_has_its_headers(page: Page) -> None:
    scopes = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert scopes.count("row") == 4  # three variants, and the floors
    assert scopes.count("col") == 7  # variant, seeds, three tasks, Delta_m, p
    assert set(scopes) == {"row", "col"}
    assert "+0.00" in page.said("td")


def test_names_cannot_break_the_page(make_results: Callable[[Any], Results], tmp_path: Path) -> None:
    name = '<script>alert(\'1\')</script> & "x" id="y" {{ 1 }} $z^2$'
    runs = [{"experiment": name, "algorithm": "mfed", "seed": 0, "keys": {"algorithm.<b>": value},
             "values": {"saliency": [[0, 0.5]]}} for value in ("</svg><i>", "\u2028")]  # fmt: skip
    write_report(make_results(runs), tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert page.said("h1") == [f"Results of {name}"]
    assert f"Experiment {name}" in page.said("h2")
    assert not {tag for tag, _ in page.tags} & {"script", "i"}
    assert any("mfed <b>=</svg><i>" in one for one in page.said("text"))


def test_several_experiments_are_chapters_with_figures_numbered_through(
    make_results: Callable[[Any], Results], tmp_path: Path
) -> None:
    values = {"saliency": [[0, 0.5]]}
    runs = [{"experiment": name, "algorithm": "mfed", "seed": 0, "values": values} for name in "abcd"]
    write_report(make_results(runs), tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert page.said("h1") == ["Results of a, b, c and d"]
    assert page.said("h2") == [f"Experiment {name}" for name in "abcd"]
    assert [one["id"] for tag, one in page.tags if tag == "figure"] == [f"figure-{number}" for number in range(1, 25)]
    assert [one.get("start") for tag, one in page.tags if tag == "ol"] == ["1", "7", "13", "19"]
    assert "Pictures are drawn of a few runs of a report; ask for one of this experiment alone." in page.said("p")


def test_what_could_not_be_read_is_noted(make_results: Callable[[Any], Results], tmp_path: Path) -> None:
    made = make_results([{"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, 0.5]]}}])
    problems = [f"/runs/{number}: is damaged" for number in range(12)]
    results = replace(made, problems=problems)
    write_report(results, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert "Notes on the runs" in page.said("h2")
    assert [one for one in page.said("li") if "/runs/" in one or "more" in one] == [*problems[:10], "and 2 more"]
