"""Pages of hostile texts, of builds under way, of others' tables, of evaluations, and of two datasets."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import opened
from evaluated import write_annotations
from page_tables import HOSTILE, paired, sentence

import prefdata
from prefdata import Recipe, write_page
from prefdata.evaluation.record import write_record
from prefdata.pairing import BestVsWorst
from prefdata.prompts import SamplePrompts
from prefdata.sampling import SampleAnswers
from prefdata.scoring import BaselineScorer


@pytest.fixture
def see(browser, tmp_path):
    """Writes a page and opens it; at the end nothing may have gone wrong in it."""
    pages = []

    def write(where, name="page.html", hash="", **options):
        page = write_page(where, tmp_path / name, **options)
        pages.append(opened(browser, page.path, hash))
        return pages[-1]

    yield write
    for page in pages:
        assert page.errors == []
        assert [request for request in page.requests if not request.startswith("file:")] == []
        assert page.do("window.POLICY") == []
        page.page.context.close()


def test_hostile_texts_stay_texts_everywhere(see, tmp_path):
    dataset = paired(tmp_path, 60, hostile=True)
    drops = pq.read_table(dataset / "drops.parquet")
    more = [{"prompt_id": f"zz {text}", "stage": "prompts", "reason": text, "detail": text} for text in HOSTILE]
    rows = sorted([*drops.to_pylist(), *more], key=lambda row: row["prompt_id"])
    pq.write_table(pa.Table.from_pylist(rows, drops.schema), dataset / "drops.parquet")
    document = json.loads((dataset / "recipe.json").read_text())
    (dataset / "recipe.json").write_text(json.dumps({**document, "name": HOSTILE[3]}))
    page = see(dataset)
    assert HOSTILE[3] in page.page.inner_text("h1")
    count = "[...document.scripts].filter((script) => !script.id.startsWith('library-')).length"
    scripts = page.do(count)
    for stream in page.page.locator("path.stream").all():
        stream.dispatch_event("pointermove")
    for button in page.page.locator("#overview figcaption button").all():
        button.click()
    assert HOSTILE[1] in page.page.inner_text("#overview")
    for view, steps in (("l", 16), ("x", 8)):
        page.press(view)
        page.page.wait_for_timeout(200)
        for rect in page.page.locator("#plots rect.hit").all():
            rect.dispatch_event("pointermove")
        for button in page.page.locator("#plots figcaption button").all():
            button.click()
        for _ in range(steps):
            page.press("j")
            page.wait_pair()
            page.press("d", "d", "m")
    assert "window.PWNED" in page.page.inner_text("#grid")
    page.search("<img src=x")
    assert page.page.locator("#chips .chip").count() == 1
    assert page.do("window.PWNED") is None
    assert page.do("({}).x") is None
    assert (
        page.do("document.querySelectorAll('iframe, #detail img, #grid img, #detail svg, a[href^=javascript]').length")
        == 0
    )
    assert page.do(count) == scripts


MARKDOWN = """# A *title*

Some **bold**, `code <b>`, ~~gone~~ and [words](javascript:window.PWNED=1) ![a cat](https://example.org/cat.png)

1. first
2. second <img src=x onerror=window.PWNED=1>

| a | b |
|---|---|
| 1 | <svg/onload=window.PWNED=1> |

> said

```html
<script>window.PWNED=1</script>
```

<iframe srcdoc="<script>parent.PWNED=1</script>"></iframe>
"""


def test_markdown_is_a_switch_and_makes_no_markup_of_texts(see, tmp_path):
    deep = "> " * 9000
    rows = [
        {"prompt": f"{MARKDOWN} {n}", "chosen": MARKDOWN, "rejected": [deep + "end", "x" * 30_000][n]} for n in (0, 1)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = see(tmp_path / "t.jsonl", hash="#v=list")
    page.press("j")
    page.wait_pair()
    chosen = page.page.locator("#detail .side.chosen")
    assert chosen.locator(".text").evaluate("part => part.textContent") == MARKDOWN
    assert page.page.locator("#detail .markdown").count() == 0
    page.press("m")
    page.page.wait_for_selector("#detail .side.chosen .markdown")
    for tag, text in {
        "strong": "bold",
        ".heading em": "title",
        "p code": "code <b>",
        "s": "gone",
        "td >> nth=0": "1",
    }.items():
        assert chosen.locator(tag).inner_text() == text
    assert chosen.locator("ol li").count() == 2
    assert chosen.locator("pre").inner_text() == "<script>window.PWNED=1</script>"
    assert "words [picture: a cat]" in chosen.inner_text()
    assert "<iframe srcdoc=" in chosen.inner_text()
    assert page.page.locator("#detail").locator("a, img, svg, iframe, script, style").count() == 0
    assert "m=1" in page.do("location.hash")
    for _ in range(2):
        rejected = page.page.locator("#detail .side.rejected .text")
        assert "markdown" not in rejected.get_attribute("class")
        page.press("j")
        page.wait_pair()
    page.press("m")
    page.page.wait_for_function("() => !document.querySelector('#detail .markdown')")
    assert page.do("window.PWNED") is None


def test_texts_beside_the_page_are_read_when_they_are_needed(see, tmp_path):
    dataset = paired(tmp_path, 700)
    page = see(dataset, "folder", hash="#v=list")
    assert len(page.requests) == 1
    page.press("j")
    page.wait_pair()
    assert len(page.requests) == 2
    page.search("end 555-")
    assert page.count.startswith("1 of ")
    (tmp_path / "folder" / "data" / "c0.js").unlink()


def test_a_missing_part_is_one_message(see, tmp_path):
    page = see(paired(tmp_path, 40), "folder", hash="#v=list")
    (tmp_path / "folder" / "data" / "c0.js").unlink()
    page.press("j")
    page.wait_pair()
    assert "c0.js is not beside this page" in page.page.inner_text("#detail")
    page.errors.clear()


def recipe(**options) -> Recipe:
    return Recipe(
        name="shown",
        prompts=SamplePrompts(scored=True),
        candidates=(SampleAnswers(name="a", scored=True),),
        scores=BaselineScorer(comparisons=True),
        pairs=BestVsWorst(),
        **options,
    )


def test_a_build_shows_more_than_its_dataset(see, tmp_path):
    built = prefdata.build(recipe(), tmp_path / "built")
    page = see(built, hash="#v=list")
    assert page.count == "20 pairs"
    page.press("j")
    page.wait_pair()
    detail = page.page.inner_text("#detail")
    assert "All 4 answers, best first" in detail
    assert "6 comparisons of two answers" in detail


def test_a_build_under_way_shows_what_is_there(see, tmp_path):
    built = prefdata.build(recipe(), tmp_path / "built")
    shutil.rmtree(built.dataset)
    for stage in (built.folder / "stages").iterdir():
        if stage.name.startswith(("scores", "pairs")):
            shutil.rmtree(stage)
    page = see(built.folder)
    text = page.page.inner_text("#overview")
    assert "The build is under way" in text
    assert "to do" in text
    page.press("x", "j")
    assert page.count == "20 dropped prompts"
    page.wait_pair()
    assert "not yet paired" in page.page.inner_text("#detail")
    assert "All 4 answers" in page.page.inner_text("#detail")


@pytest.mark.parametrize("scored", [False, True])
def test_a_table_of_somebody_else(see, tmp_path, scored):
    scores = [{"score_chosen": 5, "score_rejected": n % 5} if scored else {} for n in range(30)]
    rows = [
        {
            "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"Ask {n}"}],
            "chosen": [{"role": "assistant", "content": sentence(n, 20)}],
            "rejected": [{"role": "assistant", "content": sentence(n + 1, 9)}],
            **scores[n],
        }
        for n in range(30)
    ]
    (tmp_path / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = see(tmp_path / "theirs.jsonl")
    assert "TRL, conversational" in page.page.inner_text("#overview")
    page.press("l", "j")
    page.wait_pair()
    assert page.count == "30 pairs"
    assert "Be kind." in page.page.inner_text("#detail")
    has_margin = page.page.locator("#plots .plot", has_text="margin").count()
    assert bool(has_margin) == scored
    assert not page.page.is_visible("#tab-dropped")


def evaluation(folder, name, preferences):
    work = folder / "evaluation" / "alpaca_eval"
    work.mkdir(parents=True)
    asked = [f"Say {n}" for n in range(len(preferences))]
    ours = [{"instruction": text, "output": f"{name}: {text}"} for text in asked]
    base = [{"instruction": text, "output": f"base: {text}"} for text in asked]
    write_annotations(work / "annotations.json", ours, base, preferences)
    results = {"win_rate": 50.0, "standard_error": 2.0, "avg_length": 9}
    write_record(folder, {"name": name, "pins": {}}, "alpaca_eval", results, lambda _: None)
    return folder


def test_an_evaluation_and_two_of_them(see, tmp_path):
    one = evaluation(tmp_path / "one", "mine", [2.0, 1.0, None, 1.5, 1.9])
    other = evaluation(tmp_path / "other", "theirs", [1.0, 1.0, 2.0, 1.5, 1.2])
    page = see(one)
    assert "win rate" in page.page.inner_text("#overview")
    page.press("l", "j")
    page.wait_pair()
    assert page.count == "5 instructions"
    assert "mine preferred" in page.page.inner_text("#grid")
    detail = page.page.inner_text("#detail")
    assert "mine: Say 0" in detail
    assert "base: Say 0" in detail
    page = see(one, "two.html", compare=other, hash="#v=list")
    page.press("j")
    page.wait_pair()
    detail = page.page.inner_text("#detail")
    assert "theirs: Say 0" in detail
    assert "base: Say 0" not in detail
    assert "mine better" in page.page.inner_text("#grid")


def test_two_datasets_show_what_has_changed(see, tmp_path):
    before = paired(tmp_path, 120, name="before")
    after = paired(tmp_path, 130, name="after", shift=1)
    page = see(after, compare=before)
    text = page.page.inner_text("#overview")
    assert "What differs from before" in text
    assert "gained" in text
    page.press("l")
    page.page.evaluate(
        "location.hash = '#v=list&f=' + encodeURIComponent('change=' + encodeURIComponent('other answers'))"
    )
    page.page.wait_for_selector("#chips .chip")
    assert not page.count.startswith("0 ")
    page.press("j")
    page.wait_pair()
    page.page.wait_for_selector("#detail .before .side.chosen")
    assert "In the compared dataset" in page.page.inner_text("#detail")
