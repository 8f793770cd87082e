"""The pictures of a card: their numbers, their bytes, nothing in them that acts, and their place beside the tables."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest
from cards import HOSTILE, LEDGER
from dataset_folders import written
from small_dataset import dataset_folder

from prefdata.publish.card.pictures import PICTURES, flow_svg, margins_svg
from prefdata.publish.card.statistics import margin_bars
from prefdata.verification import verify

SVG = "{http://www.w3.org/2000/svg}"
ALLOWED = {"svg", "title", "desc", "rect", "text", "path"}


def parts(text: str) -> list[ET.Element]:
    return list(ET.fromstring(text).iter())


def widths(text: str) -> list[float]:
    """Widths of the bars; the first rectangle is the background."""
    rectangles = [part for part in parts(text) if part.tag == f"{SVG}rect"][1:]
    return [float(part.attrib["width"]) for part in rectangles]


def test_the_flow_has_a_bar_for_what_went_on_and_for_each_reason():
    drawn = flow_svg(LEDGER)
    kept, blank, duplicate, pairs = widths(drawn)
    assert kept == pairs > 500 > blank >= duplicate >= 1
    texts = [part.text for part in parts(drawn) if part.tag == f"{SVG}text"]
    assert "1,234 in, 1,231 out; blank 2, duplicate 1" in texts
    titles = [part.text for part in parts(drawn) if part.tag == f"{SVG}title"]
    assert "duplicate: 1 dropped" in titles


def test_the_margins_have_a_bar_for_each_bin_as_high_as_its_count():
    drawn = margins_svg([("1", 2), ("3", 1)])
    heights = [float(part.attrib["height"]) for part in parts(drawn) if part.tag == f"{SVG}rect" and "x" in part.attrib]
    assert heights == [220.0, 110.0]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_the_data_stay_text(text):
    ledger = {"stages": [{"stage": text, "in": 3, "out": 1, "drops": {text: 2}}]}
    for drawn in (flow_svg(ledger), margins_svg([(text, 1)])):
        found = parts(drawn)
        assert {part.tag.removeprefix(SVG) for part in found} <= ALLOWED
        names = {name for part in found for name in part.attrib}
        assert not [name for name in names if name.startswith("on") or "href" in name or name == "style"]
        assert all(letter.isprintable() or letter == "\n" for letter in drawn)


def test_a_folder_has_them_its_manifest_lists_them_and_the_card_says_them_in_words(tmp_path):
    folder = dataset_folder(tmp_path / "dataset", rows=11, ledger=LEDGER)
    listed = json.loads((folder / "prefdata.manifest.json").read_text())["files"]
    card = (folder / "README.md").read_text()
    for name in PICTURES:
        assert (folder / name).is_file()
        assert name in listed
        assert len(re.findall(rf"!\[[^\]]{{20,}}\]\({name}\)", card)) == 1
    assert "![prompts: 1,234 in, 1,231 out; pairs: 1,231 in, 1,231 out](flow.svg)" in card
    assert "█" not in card
    assert (folder / "margins.svg").read_text() == margins_svg(margin_bars(sorted((folder / "data").iterdir())))
    assert "Pairs by score margin: 2: 2, 3: 3, 4: 3, 5: 3" in card
    again = dataset_folder(tmp_path / "again", rows=11, ledger=LEDGER)
    assert [(again / name).read_bytes() for name in PICTURES] == [(folder / name).read_bytes() for name in PICTURES]


def test_what_has_no_stages_and_no_pairs_has_no_pictures(tmp_path):
    folder = written(tmp_path / "dataset", [])
    assert not [name for name in PICTURES if (folder / name).exists()]
    assert ".svg" not in (folder / "README.md").read_text()


def test_load_dataset_gives_the_same_with_and_without_pictures_with_and_without_a_card(tmp_path):
    from datasets import load_dataset

    folder = dataset_folder(tmp_path / "dataset", rows=11, test=2, ledger=LEDGER, answers=None)

    def loaded(cache: str) -> dict[str, list]:
        found = load_dataset(str(folder), cache_dir=str(tmp_path / cache))
        return {split: rows.to_list() for split, rows in found.items()}

    with_pictures = loaded("a")
    assert {split: len(rows) for split, rows in with_pictures.items()} == {"train": 9, "test": 2}
    (folder / "README.md").rename(tmp_path / "card")
    (folder / "drops.parquet").unlink()
    (folder / "drops_candidates.parquet").unlink()
    bare = loaded("b")
    for name in PICTURES:
        (folder / name).unlink()
    assert loaded("c") == bare
    (tmp_path / "card").rename(folder / "README.md")
    assert loaded("d") == with_pictures


class TestVerify:
    @pytest.fixture
    def dataset(self, tmp_path):
        from prefdata import pair

        rows = [{"prompt": f"q{n}", "response": f"a{k}" * (k + 1), "score": n * k} for n in range(9) for k in range(3)]
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        pair(tmp_path / "t.jsonl", "best_vs_worst", tmp_path / "out", with_candidates=True)
        return tmp_path / "out"

    def test_pictures_are_drawn_again(self, dataset):
        report = verify(dataset)
        assert report.holds, report.mismatches
        assert "pictures, drawn again" in report.checked

    @pytest.mark.parametrize("name", PICTURES)
    def test_a_changed_or_missing_picture_is_found(self, dataset, name):
        path = dataset / name
        path.write_text(path.read_text().replace("<rect", "<rect ", 1))
        assert {(found.what, found.where) for found in verify(dataset).mismatches} == {
            ("manifest", name),
            ("picture", name),
        }
        path.unlink()
        assert {(found.what, found.where) for found in verify(dataset).mismatches} == {
            ("manifest", name),
            ("picture", name),
        }

    def test_a_dataset_of_an_earlier_version_has_none(self, dataset):
        from prefdata.publish.manifest import write_manifest

        card = (dataset / "README.md").read_text()
        (dataset / "README.md").write_text(re.sub(r"!\[[^\]]*\]\(\w+\.svg\)", "", card))
        for name in PICTURES:
            (dataset / name).unlink()
        write_manifest(dataset)
        report = verify(dataset)
        assert report.holds, report.mismatches
        assert "pictures, drawn again" not in report.checked
