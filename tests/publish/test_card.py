"""The card: its header is YAML that says what is there, whatever the author wrote."""

from __future__ import annotations

import pytest
from cards import HOSTILE, ROWS, card, header
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.publish import Publish
from prefdata.publish.card.text import size_category


def clients_header(text: str, folder) -> dict[str, object]:
    from huggingface_hub import metadata_load

    (folder / "README.md").write_text(text, encoding="utf-8", newline="")
    return metadata_load(folder / "README.md")


def test_the_header_names_exactly_the_splits_that_are_there():
    for rows in (ROWS, {"train": 0}):
        assert header(card(rows))["configs"] == [
            {
                "config_name": "default",
                "default": True,
                "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in rows],
            }
        ]


def test_it_states_a_licence_only_when_the_author_states_one():
    silent, stated = card(), card(publish=Publish(license="cc-by-4.0"))
    assert "license" not in header(silent)
    assert "The recipe states no licence." in silent
    assert header(stated)["license"] == "cc-by-4.0"
    assert "`cc-by-4.0`, as the author of the recipe states it." in stated


def test_tags_are_the_usual_ones_and_the_authors_without_repetition():
    fields = header(card(publish=Publish(tags=("mine", "dpo"), language=("en", "de"))))
    assert fields["tags"] == ["preference", "dpo", "synthetic", "prefdata", "mine"]
    assert fields["language"] == ["en", "de"]
    assert fields["size_categories"] == ["n<1K"]


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (10**6, "1M<n<10M"),
        (10**7, "10M<n<100M"),
        (10**12, "n>1T"),
    ],
)
def test_size_categories_are_those_of_the_hub(rows, category):
    assert size_category(rows) == category


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_of_the_author_can_break_the_header(text, tmp_path):
    publish = Publish(title=text, license=text, language=(text,), tags=(text,))
    plain = header(card())
    fields = header(card(description=text, publish=publish, steps={"prompts": text}))
    assert fields == clients_header(card(description=text, publish=publish), tmp_path)
    assert fields["pretty_name"] == text
    assert fields["license"] == text
    assert fields["language"] == [text]
    assert text in fields["tags"]
    assert fields["configs"] == plain["configs"]
    assert fields["size_categories"] == plain["size_categories"]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("-\n\r :#'\"[]{}&*!|>%@`ab\x1b\u2028"), min_size=1, max_size=20))
def test_no_mix_of_marks_can_break_the_header(text):
    fields = header(card(description=text, publish=Publish(title=text)))
    assert fields["pretty_name"] == text
    assert fields["configs"] == header(card())["configs"]


def test_the_table_of_stages_balances_and_shows_every_reason():
    text = card()
    assert "| prompts | 1,234 | 1,231 | blank 2, duplicate 1 |" in text
    assert "| pairs | 1,231 | 1,231 | none |" in text
    assert "Splits: `train` (9 rows), `test` (2 rows)." in text


def test_it_says_how_it_was_made_and_what_pins_it():
    text = card(steps={"pairs": "best against worst"}, fingerprints={"recipe": "ab" * 32}, command="prefdata build x")
    assert "- **pairs**: best against worst" in text
    assert f"- recipe: `{'ab' * 32}`" in text
    assert "Made with `prefdata build x`." in text
