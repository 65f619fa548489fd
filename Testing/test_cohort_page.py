"""cohort.html: what it says, and how it sorts and filters in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import Page, chromium, opened
from nephi.cohort.cohort_csv import Result
from nephi.cohort.cohort_page import MOST_SHOWN, render_cohort_page, write_cohort_page
from nephi.cohort.distributions import MEASURES, distributions, fences
from nephi.cohort.rows import Row, folder_of

SHOWN = "[...document.querySelectorAll('#pairs tbody tr')].filter(row => !row.hidden)"
NAMES = f"{SHOWN}.slice(0, 3).map(row => row.cells[2].firstElementChild.textContent)"


def _row(id: str) -> Row:
    return Row(id, {"fixed": "/data/fixed.nii.gz", "moving": "/data/moving.nii.gz"}, folder=folder_of(id))


def _done(id: str, verdict: str = "good", dice: float = 0.8, seconds: float = 10.0) -> Result:
    numbers = {"metrics.dice.mean": dice, "runtime.seconds": seconds}
    files = {"page": "report.html", "before": "before.png", "after": "after.png"}
    return Result(_row(id), "done", verdict, "No measurement speaks against it.", files=files, numbers=numbers)


def _thousand() -> list[Result]:
    """Every tenth to check, pair 7 failed, pair 500 an outlier, pair 1 and 900 not registered."""
    found = [_done(f"pair-{n}", "check" if n % 10 == 0 else "good", 0.8 + 0.0001 * n, float(1000 - n))
             for n in range(1000)]
    found[7] = _done("pair-7", "failed", 0.8)
    found[500] = _done("pair-500", "good", 0.1)
    for n in (1, 900):
        found[n] = Result(_row(f"pair-{n}"), "failed", error="The fixed image is <b>gone</b>; check the path.")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    if chromium() is None:
        pytest.skip("no Chromium here")
    folder = tmp_path_factory.mktemp("cohort")
    results = _thousand()
    write_cohort_page(folder / "cohort.html", results, "study.csv")
    report = folder / results[999].row.folder / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<title>the report of pair 999</title>")
    with opened() as page:
        yield page, folder / "cohort.html"


@pytest.fixture
def fresh(page) -> Page:
    page[0].open(page[1])
    return page[0]


def test_in_a_narrow_window_the_numbers_of_a_row_are_still_in_its_box(fresh):
    size = {"width": 500, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    fresh.call("Emulation.setDeviceMetricsOverride", **size)
    right = "getBoundingClientRect().right"
    row = "document.querySelector('#pairs tbody tr')"
    assert fresh.ask(f"{row}.lastElementChild.{right} <= {row}.{right} + 1 && {row}.{right} > innerWidth")
    fresh.call("Emulation.clearDeviceMetricsOverride")


def test_the_verdicts_that_need_a_look_come_first(fresh):
    assert fresh.ask(f"{SHOWN}.length") == 1000
    assert fresh.ask(NAMES) == ["pair-1", "pair-900", "pair-7"]
    assert fresh.ask("document.querySelectorAll('b b').length") == 0  # what is in a message is text


def test_a_click_on_a_head_sorts_and_another_one_turns_the_order_round(fresh):
    fresh.click("#pairs th:nth-child(3) button")
    assert fresh.ask(NAMES) == ["pair-0", "pair-1", "pair-2"]
    fresh.click("#pairs th:nth-child(3) button")
    assert fresh.ask(NAMES) == ["pair-999", "pair-998", "pair-997"]
    fresh.click("#pairs th:nth-child(4) button")
    assert fresh.ask(NAMES)[0] == "pair-500"
    last = f"{SHOWN}.slice(-2).map(row => row.cells[2].firstElementChild.textContent)"
    assert fresh.ask(last) == ["pair-1", "pair-900"]  # what was not measured stays at the end
    fresh.click("#pairs th:nth-child(4) button")
    assert fresh.ask(NAMES)[0] == "pair-999" and fresh.ask(last) == ["pair-1", "pair-900"]


@pytest.mark.parametrize(("typed", "count"), [("pair-99", 11), ("<b>gone", 2), ("Dice < 0.8", 1), ("dice>0.8989", 10),
                                              ("no such thing", 0)])
def test_what_is_typed_filters_by_words_and_by_numbers(fresh, typed, count):
    fresh.click("#words")
    fresh.type(typed)
    assert fresh.ask(f"{SHOWN}.length") == count
    assert fresh.ask("document.getElementById('shown').textContent") == f"{count} of 1000 pairs"
    assert fresh.ask("document.getElementById('none').hidden") == (count > 0)


def test_buttons_filter_by_verdict_and_by_outliers_and_let_go_again(fresh):
    fresh.click("[data-state=check]")
    assert fresh.ask(f"{SHOWN}.length") == 98
    fresh.click("[data-state=failed]")
    assert fresh.ask(f"{SHOWN}.length") == 99
    fresh.click("[data-state=check]")
    fresh.click("[data-state=failed]")
    fresh.click("#outliers")
    assert fresh.ask(NAMES) == ["pair-500"]
    fresh.click("[data-state=error]")
    assert fresh.ask(f"{SHOWN}.length") == 0
    fresh.click(".spread a")  # the mark of the outlier leads to its row, whatever was filtered
    assert fresh.ask(f"{SHOWN}.length") == 1000 and fresh.ask("location.hash") == "#pair-500"


def test_a_click_on_a_row_opens_its_report_and_one_without_a_report_does_nothing(fresh):
    fresh.click("#pair-1 td:last-child")
    fresh.click("#pair-999 td:last-child")
    fresh.until("document.title === 'the report of pair 999'")


def test_an_outlier_lies_beyond_the_fences_of_a_box_plot_and_few_values_have_none():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    assert fences(values) == (3 - 1.5 * 4, 7 + 1.5 * 4)
    assert fences(values[:7]) == (-np.inf, np.inf)
    spread = distributions([_done(str(n), dice=0.8) for n in range(9)] + [_done("far", dice=0.2)])
    dice = next(part for part in spread if part.measure.title == "Dice")
    assert [number for _, number in dice.outliers] == [9] and dice.median == 0.8


def test_every_measure_of_the_page_is_a_number_that_reports_have():
    text = (Path(__file__).parents[1] / "docs" / "report-schema.md").read_text(encoding="utf-8")
    for key in (key for measure in MEASURES for key in measure.key):
        parts = [part for part in key.split(".")[1:] if part not in ("forward", "inverse", "after")]
        assert all(re.search(rf"[.`]{part}\b|`{part}`", text) for part in parts), key


def test_of_very_many_pairs_the_page_shows_those_that_need_a_look_and_says_so():
    results = [_done(f"p{n}", "check" if n == MOST_SHOWN else "good") for n in range(MOST_SHOWN + 1)]
    text = render_cohort_page(results, "big.csv")
    assert text.count("<tr id=") == MOST_SHOWN and f'id="pair-{MOST_SHOWN}"' in text
    assert f"of {MOST_SHOWN + 1}; all are in cohort.csv" in text


def test_a_cohort_in_which_nothing_was_measured_has_a_page_too():
    text = render_cohort_page([Result(_row("a")), Result(_row("b"), "failed", error="It failed.")], "t")
    assert "Not run" in text and "It failed." in text and "Distributions" not in text


def test_names_with_odd_letters_stay_text_and_lead_to_their_files():
    text = render_cohort_page([_done("Lémán & co (1)")], "t & <t>")
    assert "t &amp; &lt;t&gt;" in text and "Lémán &amp; co (1)" in text
    assert re.search(r'href="pairs/\w\w/L%C3%A9m%C3%A1n%20%26%20co%20%281%29/report.html"', text)
    assert json.dumps("</script") not in text
