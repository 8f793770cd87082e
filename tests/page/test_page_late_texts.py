"""A long list is shown before the texts of all its lines are read; what needs them waits, and nothing is lost."""

from __future__ import annotations

import pyarrow.dataset as ds
import pytest
from browser import opened
from page_tables import paired

from prefdata import write_page
from prefdata.page import columns

FIRST, ENDING = 64, '<script>dispatchEvent(new Event("texts"));</script>'


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(columns, "_BLOCK", FIRST)
        return write_page(paired(folder, 333), folder / "page.html").path


@pytest.fixture(scope="module")
def ids(file):
    rows = ds.dataset(file.parent / "made" / "data").to_table(columns=["prompt_id"])["prompt_id"].to_pylist()
    assert len(rows) > 4 * FIRST
    return set(rows)


@pytest.fixture
def half(browser, file):
    """The page, whose later texts are not read before `read` is called."""
    held = file.with_name("held.html")
    text = file.read_text("utf-8")
    assert text.count(ENDING) == 1
    held.write_text(text.replace(ENDING, ""), "utf-8")
    # What ends the wait where a page was cut off is kept from the program, too.
    catch = "addEventListener('DOMContentLoaded', (event) => event.stopImmediatePropagation(), true);"
    found = opened(browser, held, "#v=list", before=catch)
    yield found
    assert found.errors == []
    found.page.context.close()


def read(shown):
    shown.do("dispatchEvent(new Event('texts'))")
    shown.page.wait_for_function("() => performance.getEntriesByName('whole').length")


def cells(shown, name):
    """What the lines that are drawn show of a column, by line."""
    found = shown.do(
        f"[...document.querySelectorAll('#grid .ag-row')].map((row) => [Number(row.getAttribute('row-index')),"
        f" row.querySelector('[col-id={name}]')?.textContent])"
    )
    return dict(found)


def to_line(shown, line):
    shown.page.hover("#grid .ag-row")
    shown.page.mouse.wheel(0, 30 * line)
    shown.page.wait_for_selector(f"#grid .ag-row[row-index='{line}']")


def test_first_lines_are_whole_and_later_ones_get_their_texts(half):
    first = cells(half, "prompt")
    assert first
    assert all(first.values())
    to_line(half, 200)
    before = cells(half, "prompt")
    assert not any(before.values())
    assert all(cells(half, "margin").values())
    read(half)
    after = cells(half, "prompt")
    assert after.keys() == before.keys()
    assert all(after.values())


def test_a_pair_that_is_asked_for_early_is_opened_once_it_has_a_name(half, ids):
    to_line(half, 150)
    half.page.click("#grid .ag-row[row-index='150']")
    half.press("l")
    assert half.do("document.documentElement.dataset.pair") is None
    read(half)
    assert half.wait_pair().partition("~")[0] in ids
    assert "150" not in half.page.inner_text("#place").split()[0]
    assert half.page.inner_text("#place").startswith("151 of ")


def test_an_order_by_texts_waits_for_all_of_them(half):
    half.do("location.hash = '#v=list&s=prompt:desc'")
    half.page.wait_for_timeout(100)
    read(half)
    half.page.wait_for_function(
        "() => document.querySelector('#grid [col-id=prompt] .ag-sort-descending-icon:not(.ag-hidden)')"
    )
    shown = [text for _, text in sorted(cells(half, "prompt").items())]
    assert len(shown) > 10
    assert shown == sorted(shown, reverse=True)


def test_an_address_that_asks_for_an_order_by_texts_is_ready_with_all_of_them(browser, file):
    page = opened(browser, file, "#v=list&s=prompt:desc")
    shown = [text for _, text in sorted(cells(page, "prompt").items())]
    assert len(shown) > 10
    assert shown == sorted(shown, reverse=True)
    assert page.errors == []


def test_an_address_that_names_a_late_pair_opens_it(browser, file, ids):
    plain = opened(browser, file, "#v=list")
    plain.page.wait_for_function("() => performance.getEntriesByName('whole').length")
    to_line(plain, 250)
    plain.page.click("#grid .ag-row[row-index='250']")
    name = plain.wait_pair()
    page = opened(browser, file, f"#v=list&p={name}")
    assert page.wait_pair() == name
    assert page.page.inner_text("#place").startswith("251 of ")


def test_an_address_with_a_filter_on_texts_is_as_without_it(browser, file):
    page = opened(browser, file, "#v=list&f=prompt%3Dabc")
    assert page.count.endswith(" pairs")
    assert page.errors == []


@pytest.mark.parametrize(("more", "why"), [(0, "A part of this page is missing"), (300, "could not be read")])
def test_a_page_that_was_cut_off_says_so(browser, file, more, why):
    text, rest = file.read_text("utf-8"), '<script type="text/plain" id="rest-prompt">'
    cut = file.with_name("cut.html")
    cut.write_text(text[: text.index(rest) + more], "utf-8")
    page = opened(browser, cut, "#v=list")
    page.page.wait_for_selector("#main [role=alert]")
    assert why in page.page.inner_text("#main")
