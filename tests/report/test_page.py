from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_samples import make_report, make_row

from biotilt.errors import BiotiltError
from biotilt.report import render_report, report_html

_VOID = {"meta", "link", "br", "img", "hr", "input"}
_EVIL = '<script>alert("x")</script>$y$ & {{ 7 * 7 }}'


class Reader(HTMLParser):
    """Collects elements and texts, and checks that every HTML element that opens also closes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and "style" not in self.open:
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def page() -> str:
    return report_html(make_report())


def test_the_page_loads_nothing(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "iframe", "object", "embed", "img"} & {tag for tag, _ in reader.elements}
    for tag, attributes in reader.elements:
        for name in ("src", "href", "xlink:href", "data", "action"):
            address = attributes.get(name) or ""
            if tag != "a":
                assert address == "" or address.startswith(("#", "data:")), (tag, address)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_a_citation_can_be_followed_by_hand(page: str) -> None:
    links = [attributes["href"] for tag, attributes in Reader(page).elements if tag == "a"]
    assert "https://doi.org/10.1038/s41587-019-0164-5" in links


def test_sections_stand_in_the_order_of_reading(page: str) -> None:
    headings = [
        "Results",
        "During tuning",
        "Scores before and after",
        "Which letters, where",
        "Top designs",
        "Score against naturalness",
        "How to reproduce this",
        "What the columns mean",
        "Versions and sources",
    ]
    places = [page.index(f">{heading}</h2>") for heading in headings]
    assert places == sorted(places)
    assert page.index('class="headline"') < page.index('class="lead"') < places[0]


def test_every_figure_is_described_and_every_id_is_used_once(page: str) -> None:
    elements = Reader(page).elements
    figures = [attributes for tag, attributes in elements if tag == "svg"]
    assert len(figures) == 7  # two curves, two distributions, two logos, the frontier
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in figures)
    names = [attributes["id"] for _, attributes in elements if attributes.get("id")]
    assert len(names) == len(set(names))
    used = {address[1:] for _, a in elements if (address := a.get("xlink:href") or "").startswith("#")}
    assert used | set(re.findall(r"url\(#([^)]*)\)", page)) <= set(names)


def test_user_text_is_shown_and_never_run() -> None:
    row = make_row(_EVIL, 9.0)
    report = make_report(
        title=_EVIL,
        task=_EVIL,
        objective=_EVIL,
        reward=_EVIL,
        options={_EVIL: _EVIL},
        rows=[row],
        warnings=[_EVIL],
        scores={_EVIL: ([1.0, 2.0], [1.0, 2.0])},
        top=[(_EVIL, 1.0, 2.0)],
        frontier=[{"label": _EVIL, "kl": 1.0, "held_out": 2.0, "alpha": 1.0}],
        commands=[_EVIL],
        versions={_EVIL: _EVIL},
        notes=[_EVIL, 'https://a.org/"onclick="x'],
    )
    page = report_html(report)
    reader = Reader(page)
    assert "script" not in {tag for tag, _ in reader.elements}
    assert not any("onclick" in attributes for _, attributes in reader.elements)
    assert _EVIL in reader.texts  # braces and dollars stay as they were written
    assert "49" not in reader.text


def test_a_run_without_a_task_names_none() -> None:
    assert "<b>task</b> utr" in report_html(make_report())
    page = report_html(make_report(task=None))
    assert "<b>task</b>" not in page and "A generator was tuned" in page and "None" not in Reader(page).text


def test_options_that_nobody_gave_a_value_are_not_shown() -> None:
    page = report_html(make_report(options={"updates": 30, "refresh": None}))
    assert "<b>updates</b> 30" in page and "<b>refresh</b>" not in page


def test_warnings_come_after_the_verdict_and_before_the_summary() -> None:
    page = report_html(make_report(warnings=["tuned: the designs have become alike."]))
    places = [page.index(text) for text in ('class="headline"', "the designs have become alike", 'class="lead"')]
    assert places == sorted(places)


def test_the_page_names_checks_that_were_made_and_those_that_could_not_be(page: str) -> None:
    text = Reader(page).text
    assert "Checked, and nothing to report: a first check; a second check." in text
    assert "a third check, because there is no judge; to get it, add one." in text


def test_where_nothing_could_be_checked_the_page_says_so() -> None:
    none = {"made": [], "not_possible": [{"check": "a", "because": "b", "to_get": "c"}]}
    text = Reader(report_html(make_report(checks=none))).text
    assert (
        "No check was possible." in text and "nothing to report" not in text and "a, because b; to get it, c." in text
    )


def test_a_figure_that_fails_is_told_and_costs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> str:
        raise ValueError("no ink")

    monkeypatch.setattr("biotilt.report.figures.kl_curve", broken)
    text = Reader(report_html(make_report(problems=["QED of tuned: no RDKit"]))).text
    assert "the curves of tuning: ValueError: no ink" in text and "QED of tuned: no RDKit" in text
    assert "During tuning" not in text and "Scores before and after" in text


def test_a_run_that_was_screened_shows_how_right_the_screen_was() -> None:
    from biotilt.report.page import curves

    plain = make_report()
    screened = make_report(history=[{**row, "screen/rank": 0.5} for row in plain.history])
    assert len(curves(screened)) == len(curves(plain)) + 1 and "screen" in curves(screened)[-1].caption


def test_the_best_held_out_cell_is_marked(page: str) -> None:
    (cell,) = re.findall(r'<td class="win">(.*?)</td>', page, re.DOTALL)
    assert cell.startswith("7.500")


def test_headers_are_explained_twice(page: str) -> None:
    reader = Reader(page)
    tips = [attributes["title"] for tag, attributes in reader.elements if tag == "abbr"]
    assert len(tips) == 13
    assert all(tip in reader.texts for tip in tips)  # tooltips do not exist on a phone


def test_letters_of_the_top_designs_are_coloured_and_fixed_ones_underlined() -> None:
    page = report_html(make_report(fixed=[False, False, True, True]))
    assert (
        '<span class="l0">A</span><span class="l1">C</span><span class="l2 held">GG</span></td><td>8.300</td>' in page
    )
    assert "Underlined letters were held fixed." in page
    assert page.count("Shaded positions were held fixed.") == 2


def test_flat_logos_say_so() -> None:
    sequences = ["ACGU", "CGUA", "GUAC", "UACG"]
    page = report_html(make_report(base_sequences=sequences))
    caption = "the most conserved position carries 0.00 bits. All positions are below 0.1 bits"
    assert page.count(caption) == 1


def test_a_bare_run_still_has_a_page() -> None:
    rows = [make_row("tuned", 7.0, held_out=None, gap=None, distance=None, unscored=2, infeasible=1)]
    empty = {"history": [], "scores": {}, "top": [], "frontier": [], "commands": [], "versions": {}}
    gone = {"base_sequences": [], "notes": [], "checks": {}, "verdict": {}, "measured_max": None}
    text = Reader(report_html(make_report(rows=rows, **empty, **gone))).text
    assert "2 could not be scored" in text and "1 infeasible" in text
    for absent in ("During tuning", "before and after", "Which letters", "naturalness", "reproduce"):
        assert absent not in text


def test_sequences_of_several_lengths_get_no_logo() -> None:
    page = report_html(make_report(tuned_sequences=["AC", "ACG"]))
    assert "Which letters, where" not in page


def test_the_file_is_small_complete_and_the_same_every_time(tmp_path: Path, page: str) -> None:
    path = tmp_path / "run" / "report.html"
    render_report(make_report(), path)
    assert path.read_text(encoding="utf-8") == page
    assert path.stat().st_size < 1_000_000
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(BiotiltError, match=r"report\.html"):
        render_report(make_report(history=[], scores={}, frontier=[]), tmp_path / "report.html")


def test_columns_without_a_number_are_left_out_of_the_table_and_explained_all_the_same() -> None:
    rows = [make_row("base", 6.25, kmer3=None), make_row("tuned", 7.5, kmer3=None)]
    elements = Reader(report_html(make_report(rows=rows))).elements
    titles = [attributes["title"] or "" for tag, attributes in elements if tag == "abbr" and "title" in attributes]
    assert not any("three-letter words" in title for title in titles) and any("Score by" in title for title in titles)
    assert "three-letter words" in Reader(report_html(make_report(rows=rows))).text
