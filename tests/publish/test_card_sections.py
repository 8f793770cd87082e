"""The card has the numbers of the files and the methods of the recipe, and no markup from elsewhere."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from cards import HOSTILE, LEDGER, ROWS, card, header
from dataset_folders import IDS, written

from prefdata.publish import Publish
from prefdata.publish.card.blocks import find_blocks, inline, prose
from prefdata.publish.card.citations import citations
from prefdata.publish.card.statistics import bars_of, read_file_stats, schema_features
from prefdata.publish.card.text import CardFacts, card_text
from prefdata.recipe import load_recipe, shipped_recipes
from prefdata.tables.schemas import ANSWERS, MESSAGES, PAIRS


class TestEscaping:
    @pytest.mark.parametrize("text", [*HOSTILE, "<!-- prefdata:end about -->", "--> <img src=x onerror=y>", "a|b"])
    def test_no_text_of_a_recipe_renders_or_moves_a_mark(self, text):
        facts = {"description": text, "steps": {"prompts": text}, "publish": Publish(title=text, limitations=text)}
        made = card(**facts)
        body = made.split("\n---\n", 1)[1]
        assert [name for name, _ in find_blocks(made)] == [
            *("about", "load", "made", "rows", "provenance", *(["limitations"] if text else []), "licence")
        ]
        for mark in ("\x1b", "\x07", "\x08", "<script", "<img", "<!-- prefdata:end about -->\n\n-"):
            assert mark not in body

    def test_reasons_and_licences_of_a_recipe_are_shown_as_they_are(self):
        ledger = {**LEDGER, "drops": {"<b>x</b>|y\x1b[0m": 3}}
        recipe = {"prompts": {"dataset": "<i>|x\n# y"}, "publish": {"licenses": {"<i>|x\n# y": "<u>|"}}}
        text = card_text(CardFacts("n", "", Publish(), {}), ledger, ROWS, recipe=recipe)
        assert "<b>" not in text.split("\n---\n")[1]
        assert "| &lt;b&gt;x&lt;/b&gt;\\|y\ufffd\\[0m | 3 |" in text
        assert "| prompts | &lt;i&gt;\\|x # y | &lt;u&gt;\\| (as the recipe states) |" in text

    def test_prose_keeps_markdown_and_shows_html(self):
        assert prose("**a** `b` < 3\n\n- x <y>") == "**a** `b` < 3\n\n- x &lt;y>"
        assert inline("a\n`b` *c*", 5) == "a \\`b…"


class TestLicence:
    def test_the_header_and_the_text_tell_the_same(self):
        recipe = load_recipe("wpo_hybrid_v2").dump()
        text = card_text(CardFacts("n", "", Publish(), {}), LEDGER, ROWS, recipe=recipe)
        assert header(text)["license"] == "other"
        assert header(text)["license_name"] == "llama3-and-openai-terms-of-use"
        assert header(text)["license_link"].startswith("https://")
        assert "`other` (llama3-and-openai-terms-of-use), derived from the terms" in text
        assert "| answers | gpt-4-turbo | openai-terms-of-use | its outputs must not" in text

    def test_what_the_author_states_stands_beside_what_follows_from_the_inputs(self):
        recipe = load_recipe("wpo_hybrid_v2").dump()
        text = card_text(CardFacts("n", "", Publish(license="mit"), {}), LEDGER, ROWS, recipe=recipe)
        assert header(text)["license"] == "mit"
        assert "license_name" not in header(text)
        assert "`mit`, as the author of the recipe states it. The terms of its inputs give `other`" in text

    def test_an_unknown_input_is_named(self):
        text = card_text(CardFacts("n", "", Publish(), {}), LEDGER, ROWS, recipe={"table": "t.parquet"})
        assert header(text)["license"] == "other"
        assert "**Not known** are the terms of: t.parquet." in text


class TestStatistics:
    def test_the_numbers_are_those_of_the_files(self, tmp_path):
        folder = written(tmp_path / "dataset", IDS[:1500], IDS[:100])
        stats = read_file_stats(folder)
        [info] = stats.dataset_info
        assert [(split["name"], split["num_examples"]) for split in info["splits"]] == [("test", 100), ("train", 1400)]
        assert info["download_size"] == sum(path.stat().st_size for path in (folder / "data").iterdir())
        assert header((folder / "README.md").read_text())["dataset_info"] == stats.dataset_info

    def test_the_features_are_what_datasets_writes(self):
        from datasets import Features

        schema = pa.schema([*PAIRS, *ANSWERS, ("m", MESSAGES), ("t", pa.list_(pa.string())), ("b", pa.bool_())])
        schema = pa.schema({field.name: field.type for field in schema})
        features = Features.from_arrow_schema(schema)
        assert schema_features(schema) == features._to_yaml_list()
        assert Features._from_yaml_list(schema_features(schema)) == features

    def test_few_whole_numbers_have_a_bar_each_and_others_are_binned(self):
        assert bars_of(np.array([1.0, 1.0, 3.0])) == [("1", 2), ("3", 1)]
        bars = bars_of(np.linspace(0, 1, 1_000))
        assert len(bars) == 12
        assert sum(count for _, count in bars) == 1_000

    @pytest.mark.parametrize(
        "values",
        [[0.5], [0.1] * 9, [0.1, 1e300], [-1e-300, 1e-300], [0.1] * 99 + [7.5], [1e15, 1e15 + 1, 0.5], [-3, 3]],
    )
    def test_no_value_is_lost_from_the_plot(self, values):
        assert sum(count for _, count in bars_of(np.array(values, dtype="float64"))) == len(values)

    def test_a_dataset_without_pairs_has_none(self, tmp_path):
        folder = written(tmp_path / "dataset", [])
        assert read_file_stats(folder).margins == ()
        assert "## Statistics" not in (folder / "README.md").read_text()


class TestCitations:
    def test_each_method_once_in_the_order_of_the_flow(self):
        titles = citations(load_recipe("wpo_hybrid_v2").dump())
        assert [title.rpartition("arXiv:")[2] for title in titles] == ["2310.01377", "2404.03715", "2406.11827"]

    @pytest.mark.parametrize("name", shipped_recipes())
    def test_every_shipped_recipe_cites_something(self, name):
        assert citations(load_recipe(name).dump())
