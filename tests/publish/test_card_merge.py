"""A card that somebody has edited keeps every word of theirs; what prefdata wrote is brought up to date."""

from __future__ import annotations

import pytest
import yaml
from cards import HOSTILE, LEDGER, ROWS, card, header
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.errors import PublishError
from prefdata.publish import Publish
from prefdata.publish.card.blocks import find_blocks
from prefdata.publish.card.lint import lint_card
from prefdata.publish.card.merge import merge_card

OLD = card(publish=Publish(license="mit", language=("en",), limitations="Old limits."))
NEW = card(
    {"train": 20_000}, publish=Publish(license="cc-by-4.0", language=("en", "de"), tags=("more",)), steps={"pairs": "x"}
)


def with_header(text: str, **changes: object) -> str:
    changed = {**header(text), **changes}
    body = text.split("---\n", 2)[2]
    return f"---\n{yaml.safe_dump({k: v for k, v in changed.items() if v is not None}, sort_keys=False)}---\n{body}"


def test_an_unedited_card_becomes_the_new_one():
    merged = merge_card(NEW, OLD)
    assert header(merged.text) == header(NEW)
    assert find_blocks(merged.text) == find_blocks(NEW)
    assert merged.kept == {}


@pytest.mark.parametrize("theirs", [OLD, NEW, "", "# Mine\n", OLD + "\nmore", "---\ntags: [a]\n---\n", "\ufeff" + OLD])
def test_merging_twice_changes_nothing_more(theirs):
    once = merge_card(NEW, theirs).text
    assert merge_card(NEW, once).text == once


def test_text_before_between_and_after_our_blocks_stays():
    edited = OLD.replace("<!-- prefdata:begin load -->", "Between.\n\n<!-- prefdata:begin load -->")
    edited = edited.replace(
        "<!-- prefdata:begin about -->", "Before, <i>with</i> marks\\1 \\g<0>.\n<!-- prefdata:begin about -->"
    )
    merged = merge_card(NEW, edited + "\n\n## Mine\n\nAfter.   \n").text
    assert merged.index("Before, <i>with</i> marks\\1 \\g<0>.") < merged.index("prefdata:begin about")
    assert merged.index("prefdata:end about") < merged.index("Between.") < merged.index("prefdata:begin load")
    assert merged.endswith("\n\n## Mine\n\nAfter.   \n")
    assert "20,000" in merged
    assert "Old limits." not in merged


def test_a_card_of_other_hands_stays_whole_and_ours_follows():
    theirs = "---\nlicense: mit\nextra_gated_prompt: Say why\n---\n# Mine\n\nText.\n"
    merged = merge_card(NEW, theirs)
    assert "# Mine\n\nText.\n\n<!-- prefdata" in merged.text
    fields = header(merged.text)
    assert (fields["license"], fields["extra_gated_prompt"]) == ("mit", "Say why")
    assert fields["configs"] == header(NEW)["configs"]
    assert merged.kept == {"license": "mit"}


def test_what_somebody_edited_in_the_header_stays_and_is_told():
    edited = with_header(OLD, license="cc0-1.0", pretty_name="Better", viewer=False, size_categories=["n>1T"])
    merged = merge_card(NEW, edited)
    fields = header(merged.text)
    assert (fields["license"], fields["pretty_name"], fields["viewer"]) == ("cc0-1.0", "Better", False)
    assert fields["language"] == ["en", "de"]
    assert fields["size_categories"] == ["10K<n<100K"]
    assert merged.kept == {"license": "cc0-1.0", "pretty_name": "Better"}
    # And for ever: the next push knows that it was edited.
    assert header(merge_card(NEW, merged.text).text) == fields


def test_a_key_that_somebody_removed_stays_away():
    assert "pretty_name" not in header(merge_card(NEW, with_header(OLD, pretty_name=None)).text)


def test_tags_of_both_are_there():
    edited = with_header(OLD, tags=["preference", "mine"])
    assert header(merge_card(NEW, edited).text)["tags"] == ["preference", "mine", "more"]


def test_configurations_of_others_stay_after_ours_and_none_of_them_is_the_default():
    extra = {"config_name": "extra", "default": True, "data_files": "extra.csv"}
    edited = with_header(OLD, configs=[extra, *header(OLD)["configs"]])
    fields = header(merge_card(NEW, edited).text)["configs"]
    assert fields == [*header(NEW)["configs"], {"config_name": "extra", "data_files": "extra.csv"}]


def test_a_configuration_that_we_wrote_and_have_no_more_goes():
    theirs = card()
    from prefdata.publish.card.text import CardFacts, card_text

    with_answers = card_text(CardFacts("a", "", Publish(), {}), LEDGER, ROWS, answers=True)
    assert [config["config_name"] for config in header(with_answers)["configs"]] == ["default", "candidates"]
    assert [config["config_name"] for config in header(merge_card(theirs, with_answers).text)["configs"]] == ["default"]


def test_a_block_that_somebody_removed_comes_back_in_its_place():
    block = dict(find_blocks(OLD))
    edited = OLD.replace(block["load"], "").replace(block["about"], "")
    names = [name for name, _ in find_blocks(merge_card(OLD, edited).text)]
    assert names == list(block)


@pytest.mark.parametrize("theirs", ["---\na: [\n---\n", "---\n- list\n---\n", "---\n&a *b\n---\n"])
def test_a_header_that_is_no_mapping_is_refused(theirs):
    with pytest.raises(PublishError, match="not a YAML mapping"):
        merge_card(NEW, theirs)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_of_theirs_breaks_ours(text):
    merged = merge_card(NEW, f"{OLD}\n{text}\n").text
    assert find_blocks(merged) == find_blocks(NEW)
    assert header(merged)["configs"] == header(NEW)["configs"]
    assert text.replace("\r\n", "\n") in merged


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([*OLD.split("\n"), "mine", "---", "<!-- prefdata:begin load -->", "configs: x", ""]),
        max_size=30,
    )
)
def test_whatever_stands_there_merging_ends_and_is_stable(lines):
    try:
        once = merge_card(NEW, "\n".join(lines)).text
    except PublishError:
        return
    assert merge_card(NEW, once).text == once
    assert header(once)["configs"][0] == header(NEW)["configs"][0]


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.dates(), st.just("default")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["license", "tags", "configs", "dataset_info", "pretty_name", "language", "viewer", "1"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5), st.dictionaries(KEYS, VALUES, max_size=5))
def test_whatever_the_header_and_our_own_note_say_merging_ends_and_is_stable(changed, noted):
    import json

    from prefdata.publish.card.blocks import header_note

    theirs = with_header(OLD, **changed)
    theirs = theirs.replace(
        next(line for line in OLD.splitlines() if "prefdata:header" in line),
        header_note(json.loads(json.dumps(noted, default=str))),
    )
    merged = merge_card(NEW, theirs)
    json.dumps(dict(merged.kept))
    assert merge_card(NEW, merged.text).text == merged.text
    ours = header(NEW)["configs"]
    assert [{**theirs, **own} for theirs, own in zip(header(merged.text)["configs"], ours, strict=False)] == header(
        merged.text
    )["configs"][: len(ours)]


YAML_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=4),
        st.dates(),
        st.datetimes(),
        st.binary(max_size=3),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.dates() | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
OWN_KEYS = st.text("abcdefgh_", min_size=1, max_size=5).map(lambda name: f"mine_{name}") | st.dates() | st.integers()


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(OWN_KEYS, YAML_VALUES, max_size=4), st.dictionaries(OWN_KEYS, YAML_VALUES, max_size=2))
def test_every_key_that_somebody_wrote_by_hand_survives_with_its_value(keys, in_config):
    import json

    fields = header(OLD)
    fields["configs"][0].update(in_config)
    theirs = with_header(OLD, **{"configs": fields["configs"]})
    body = theirs.split("---\n", 2)[2]
    theirs = f"---\n{yaml.safe_dump({**header(theirs), **keys}, sort_keys=False)}---\n{body}"
    for new in (NEW, OLD):
        merged = merge_card(new, theirs)
        after = header(merged.text)
        assert {key: after[key] for key in keys} == keys
        assert {key: after["configs"][0][key] for key in in_config} == in_config
        json.dumps(dict(merged.kept), allow_nan=False)
        assert lint_card(merged.text) == []
        theirs = merged.text


def test_a_date_in_a_key_of_ours_does_not_stop_a_push():
    merged = merge_card(NEW, OLD.replace("pretty_name: a-name", "pretty_name: 2024-01-01"))
    assert merged.kept == {"pretty_name": "2024-01-01"}
    assert lint_card(merged.text) == []
