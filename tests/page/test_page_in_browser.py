"""The page of 2,000 pairs in a real browser, opened from its file: no request, no error, everything by keyboard."""

from __future__ import annotations

import json

import pytest
from browser import opened
from page_tables import paired

from prefdata import write_page

PROMPTS = 2_222


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    dataset = paired(folder, PROMPTS)
    return write_page(dataset, folder / "page.html").path


@pytest.fixture(scope="module")
def shown(browser, file):
    found = opened(browser, file)
    yield found
    assert (found.errors, found.requests) == ([], [file.as_uri()])


def start(shown):
    """The same page, as it was when it was opened."""
    shown.page.evaluate("document.activeElement.blur()")
    shown.press("c", "o")
    shown.do("location.hash = ''")
    shown.page.wait_for_function("() => !location.hash && !document.getElementById('overview').hidden")


def test_it_opens_without_a_request_or_an_error(shown, file):
    assert shown.requests == [file.as_uri()]
    assert shown.errors == []
    assert shown.do("window.POLICY") == []
    policy = shown.do("document.querySelector('meta[http-equiv]').content")
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'sha256-" in policy


def test_a_library_runs_when_a_view_needs_it(browser, file):
    page = opened(browser, file)
    assert page.do("[typeof d3, typeof agGrid, typeof marked]") == ["object", "undefined", "undefined"]
    page.press("l")
    page.page.wait_for_selector("#grid .ag-row")
    assert page.do("[typeof agGrid, typeof marked]") == ["object", "undefined"]
    page.press("j", "m")
    page.page.wait_for_selector("#detail .markdown")
    assert page.do("typeof marked") == "object"
    assert page.do("document.querySelectorAll('[id^=library-]').length") == 0
    assert (page.errors, page.do("window.POLICY")) == ([], [])


def test_the_overview_says_what_became_of_every_row(shown):
    start(shown)
    text = shown.page.inner_text("#overview")
    assert "Verified: every pair follows from the answers" in text or "Not checked" in text
    assert "with a pair 1,999" in text
    assert "no_contrast 223" in text
    assert "wpo_hybrid_v2: chosen highest score" in text
    assert shown.page.locator("#overview .measures li").count() > 8


def test_a_stream_opens_the_prompts_that_were_dropped_there(shown):
    start(shown)
    stream = shown.page.locator("path.stream.open", has_text="").nth(0)
    assert stream.get_attribute("role") == "button"
    for number in range(shown.page.locator("path.stream.open").count()):
        stream = shown.page.locator("path.stream.open").nth(number)
        if "no_contrast" in (stream.get_attribute("aria-label") or ""):
            stream.focus()
            break
    shown.press("Enter")
    assert shown.count == "223 dropped prompts"
    shown.press("j")
    shown.wait_pair()
    detail = shown.page.inner_text("#detail")
    assert "no contrast" in detail
    assert "All 3 answers, best first" in detail


def test_the_whole_tour_by_keyboard(shown):
    start(shown)
    shown.press("l")
    assert shown.count == "1,999 pairs"
    shown.press("j")
    first = shown.wait_pair()
    shown.press("j")
    second = shown.wait_pair()
    assert first != second
    shown.press("k")
    assert shown.wait_pair() == first
    detail = shown.page.inner_text("#detail")
    assert "Why this one" in detail
    assert "of 3 answers could be picked" in detail
    shown.press("d")
    shown.page.wait_for_selector("#detail .diff ins")
    assert shown.page.locator("#detail .diff del").count() > 0
    shown.press("d")
    shown.page.wait_for_selector("#detail .sides .side.chosen")
    shown.press("/")
    shown.page.keyboard.type("End 77-")
    shown.press("Enter")
    shown.page.wait_for_function("() => document.documentElement.dataset.search === 'End 77-'")
    assert shown.count == "1 of 1,999 pairs"
    shown.press("Escape", "j")
    shown.wait_pair()
    assert shown.page.locator("#detail mark").count() >= 2
    assert "chosen 1" in shown.page.inner_text("#grid .ag-row")
    shown.press("?")
    assert "next and previous pair" in shown.page.inner_text("#help")
    shown.press("Escape")
    assert not shown.page.is_visible("#help")
    shown.press("c")
    assert shown.count == "1,999 pairs"
    shown.press("g", "ArrowDown", "ArrowDown")
    focused = shown.wait_pair()
    shown.press("Enter")
    assert shown.do("document.activeElement.id") == "detail"
    assert shown.wait_pair() == focused
    shown.press("t", "p", "p", "x")
    assert shown.count == "223 dropped prompts"
    assert shown.do("document.documentElement.dataset.theme") == "dark"
    shown.press("t")


def test_the_list_follows_plots_and_their_tables(shown):
    start(shown)
    shown.press("l")
    plot = shown.page.locator("#plots .plot", has_text="chosen length").first
    plot.locator("svg .brush").wait_for()
    shown.page.wait_for_timeout(200)
    box = plot.locator("svg").bounding_box()
    shown.page.mouse.move(box["x"] + 120, box["y"] + 50)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + 200, box["y"] + 50, steps=4)
    shown.page.mouse.up()
    assert " of 1,999 pairs" in shown.count
    few = int(shown.count.split()[0].replace(",", ""))
    assert 0 < few < 1_999
    assert shown.page.locator("#chips .chip").count() == 1
    assert "f=length_chosen" in shown.do("decodeURIComponent(location.hash)")
    shown.page.locator("#chips .chip").click()
    assert shown.count == "1,999 pairs"
    plot = shown.page.locator("#plots .plot", has_text="chosen source").first
    plot.get_by_role("button", name="Table: chosen source").click()
    plot.get_by_role("button", name="Show only chosen source alpha").click()
    assert " of 1,999 pairs" in shown.count
    for _ in range(3):
        shown.press("j")
        shown.wait_pair()
        assert "alpha 0" in shown.page.inner_text("#detail .side.chosen .soft")


def test_a_header_sorts_and_the_address_shows_the_same_elsewhere(shown, browser, file):
    start(shown)
    shown.press("l")
    shown.page.locator("#grid .ag-header-cell[col-id=margin]").click()
    shown.page.wait_for_function("() => location.hash.includes('s=margin')")
    shown.press("j", "j", "d")
    name = shown.wait_pair()
    address = shown.do("location.hash")
    other = opened(browser, file, address)
    assert other.wait_pair() == name
    other.page.wait_for_selector("#detail .diff")
    cells = [page.page.locator("#grid .ag-row[row-index='0'] [col-id=margin]").inner_text() for page in (shown, other)]
    assert cells[0] == cells[1]
    assert (other.errors, len(other.requests)) == ([], 1)
    other.page.context.close()


@pytest.fixture
def wide(shown):
    """The same page with room for every column."""
    shown.page.set_viewport_size({"width": 3000, "height": 800})
    start(shown)
    shown.press("l")
    yield shown
    shown.page.set_viewport_size({"width": 1280, "height": 800})


def cells(shown, column, lines=range(8)):
    return [
        shown.page.locator(f"#grid .ag-row[row-index='{line}'] [col-id={column}]").inner_text().strip()
        for line in lines
    ]


@pytest.mark.parametrize(("column", "read"), [("margin", float), ("prompt", str), ("source_chosen", str)])
def test_every_kind_of_column_sorts_in_both_directions(wide, column, read):
    shown = wide
    header = shown.page.locator(f"#grid .ag-header-cell[col-id={column}] .ag-header-cell-label")
    for direction in ("asc", "desc"):
        header.click()
        shown.page.wait_for_function("words => location.hash.includes(words)", arg=f"s={column}%3A{direction}")
        values = [read(cell) for cell in cells(shown, column)]
        assert values == sorted(values, reverse=direction == "desc")
        assert shown.count == "1,999 pairs"
    header.click()
    shown.page.wait_for_function("() => !location.hash.includes('s=')")


@pytest.mark.parametrize(("column", "typed", "found"), [("margin", "3", "3"), ("source_chosen", "ALPH", "alpha")])
def test_the_filter_of_a_header_and_its_chip(wide, column, typed, found):
    shown = wide
    header = shown.page.locator(f"#grid .ag-header-cell[col-id={column}]")
    header.hover()
    header.locator(".ag-header-cell-filter-button").click()
    shown.page.locator("#grid .ag-filter input:visible").first.fill(typed)
    shown.page.wait_for_selector("#chips .chip")
    assert " of 1,999 pairs" in shown.count
    assert cells(shown, column) == [found] * 8
    shown.press("Escape")
    shown.page.locator("#chips .chip").click()
    shown.page.wait_for_function("() => document.getElementById('count').textContent === '1,999 pairs'")


def test_the_list_names_its_lines_to_a_reader_and_says_how_often_the_search_found_its_words(shown):
    start(shown)
    shown.press("l")
    shown.search("river")
    rows = int(shown.count.split()[0].replace(",", ""))
    assert shown.page.get_attribute("#grid [role=grid]", "aria-rowcount") == str(rows + 1)
    shown.page.wait_for_function(
        "() => /chosen \\d/.test(document.querySelector('#grid .ag-row[row-index=\"0\"] [col-id=hits]').textContent)"
    )
    shown.press("Escape", "j")
    shown.wait_pair()
    said = cells(shown, "hits", [0])[0]
    answers = shown.page.locator("#detail .side.chosen .text mark").count()
    assert f"chosen {answers}" in said
    assert shown.page.locator("#grid .ag-row[aria-selected=true]").count() == 1
    shown.search("river st")
    assert int(shown.count.split()[0].replace(",", "")) < rows


def test_search_finds_any_text_in_any_case_and_language(shown):
    start(shown)
    shown.search("日本 1234")
    assert shown.count == "1 of 1,999 pairs"
    shown.search("NAÏVE")
    assert shown.count == "1,999 pairs"
    shown.search("end 1234-")
    assert shown.count == "1 of 1,999 pairs"
    for structure in ('","', '{"', "\\n", "alpha"):
        shown.search(structure)
        assert shown.count == "0 of 1,999 pairs", structure


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(shown, dark):
    from axe_playwright_python.sync_playwright import Axe

    start(shown)
    shown.do(f"document.documentElement.dataset.theme = '{'dark' if dark else 'light'}'")
    problems = audit(Axe(), shown)
    shown.press("l", "j")
    shown.wait_pair()
    problems += audit(Axe(), shown)
    shown.press("d")
    shown.page.wait_for_selector("#detail .diff")
    problems += audit(Axe(), shown)
    shown.press("?")
    problems += audit(Axe(), shown)
    shown.press("Escape", "d")
    assert problems == []


def audit(axe, shown):
    found = axe.run(shown.page).response["violations"]
    return [
        f"{each['id']}: {json.dumps([node['html'][:200] for node in each['nodes'][:3]])}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
