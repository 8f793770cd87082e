"""A table in pieces gives, byte for byte, the folder that it gives in memory, whatever its form, order and size."""

from __future__ import annotations

import json
import random
from itertools import combinations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from table_ways import both_ways

from prefdata.errors import InputError
from prefdata.flow.from_table import pair
from prefdata.flow.paired_table import _Work, paired_table
from prefdata.pairing import (
    DNO,
    BelowChosen,
    BestVsWorst,
    CustomRule,
    Highest,
    Longest,
    Lowest,
    NearestLength,
    NotIdentical,
    Random,
    ScoreAtLeast,
    Selection,
    Shortest,
    TopKVsBottomK,
    UltraFeedbackBinarized,
    WPOHybridV1,
    WPOHybridV2,
)
from prefdata.pairing.facts import alike, bare_of_marks, facts_of
from prefdata.tables.digest import bare_digest_series, digest_series, table_digest, visible_marks
from prefdata.tables.schemas import MESSAGES
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.spill import Spill

TALK = json.dumps([{"role": "user", "content": "Why?"}])
LONG_TALK = json.dumps(
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
)
PROMPTS = (
    "Why?",
    "How?",
    "Who?",
    TALK,
    LONG_TALK,
    " Why?",
    "",
    " ",
    None,
    "[",
    "[]",
    "é",
    "\u3000",
    "漢字",
    "\0",
    f"\0{TALK}",
)
TEXTS = ("a", "b", "bb", "cc", "ccc", "é", "ab", " a", "漢字", "", " ", "\x1c", "\u3000", "\u200b", None)
SCORES = (1.0, 2.0, 2.0, 3.0, 5.0, 6.0, 0.0, -0.0, None, float("nan"), float("inf"))

custom = CustomRule(
    chosen=Selection(among=(ScoreAtLeast(value=2),), by=(Longest(), Highest())),
    rejected=Selection(among=(BelowChosen(margin=1),), by=(NearestLength(), Random(seed=3), Shortest())),
)
drawn = CustomRule(chosen=Selection(by=(Random(seed=1), Highest())), rejected=Selection(by=(Lowest(), Random())))
RULES = (
    WPOHybridV2(),
    WPOHybridV2(length="bytes"),
    WPOHybridV2(length="words"),
    WPOHybridV2(admit=("blank", "cut_off")),
    WPOHybridV1(),
    WPOHybridV1(threshold=2, margin=0),
    BestVsWorst(),
    UltraFeedbackBinarized(seed=4),
    custom,
    drawn,
    DNO(teacher=("t",)),
    TopKVsBottomK(),
)


SCHEMA = {
    "prompt_id": pa.string(),
    "prompt": pa.string(),
    "response": pa.string(),
    "score": pa.float64(),
    "source": pa.string(),
    "model": pa.string(),
    "index": pa.int64(),
    "finish_reason": pa.string(),
}


@st.composite
def long_tables(draw) -> pa.Table:
    """Clustered, or shuffled, or clustered but for one row; any of the optional columns may lack."""
    clean = draw(st.booleans())
    dice = random.Random(draw(st.integers(0, 2**32)))
    rows = []
    for number in range(draw(st.integers(1, 25))):
        prompt = f"prompt {number}" if clean else dice.choice((*PROMPTS, f"prompt {number}"))
        prompt_id = dice.choice((None, None, "p", "q", "", f"id {number}"))
        for index in range(dice.choice((1, 2, 3, 4, 6, 9))):
            rows.append(  # noqa: PERF401 - the draws of one row are easier to read this way
                {
                    "prompt_id": prompt_id if dice.random() > 0.02 else None,
                    "prompt": prompt,
                    "response": dice.choice(TEXTS[: 9 if clean and dice.random() < 0.9 else None]),
                    "score": dice.choice(SCORES[: 8 if clean and dice.random() < 0.9 else None]),
                    "source": dice.choice(("s", "t", "é", None) if not clean else ("s", "t")),
                    "model": dice.choice(("m", "n", None)),
                    "index": index if clean else dice.choice((0, 1, 2, None, index)),
                    "finish_reason": dice.choice(("stop", "stop", None, "length") if not clean else ("stop", None)),
                }
            )
    order = draw(st.sampled_from(("as is", "as is", "shuffled", "one row moved")))
    if order == "shuffled":
        dice.shuffle(rows)
    elif order == "one row moved":
        rows.append(rows.pop(0))
    left_out = draw(st.lists(st.sampled_from(("prompt_id", "source", "model", "index", "finish_reason")), unique=True))
    if draw(st.booleans()):
        left_out.append("prompt_id")
    kept = {name: kind for name, kind in SCHEMA.items() if name not in left_out}
    return pa.Table.from_pylist([{name: row[name] for name in kept} for row in rows], schema=pa.schema(kept.items()))


@st.composite
def wide_tables(draw) -> pa.Table:
    dice = random.Random(draw(st.integers(0, 2**32)))
    rows = []
    for number in range(draw(st.integers(1, 25))):
        size = dice.choice((0, 1, 2, 3, 5, 6))
        texts = None if dice.random() < 0.05 else [dice.choice(TEXTS) for _ in range(size)]
        scores = [dice.choice(SCORES) for _ in range(size if dice.random() < 0.9 else size + 1)]
        rows.append(
            {
                "prompt": dice.choice((*PROMPTS, *(f"prompt {number}",) * 30)),
                "all_generated_responses": texts,
                "all_rm_scores": None if dice.random() < 0.05 else scores,
                "model": dice.choice(("m", None)),
                "index": 7,
            }
        )
    names = [
        "prompt",
        "all_generated_responses",
        "all_rm_scores",
        *draw(st.lists(st.sampled_from(("model", "index")), unique=True)),
    ]
    kinds = {"all_generated_responses": pa.list_(pa.string()), "all_rm_scores": pa.list_(pa.float64())}
    schema = pa.schema([(name, kinds.get(name, SCHEMA.get(name))) for name in names])
    return pa.Table.from_pylist([{name: row[name] for name in names} for row in rows], schema=schema)


# Not shrunk: that takes minutes, and the tables are small.
PHASES = (Phase.explicit, Phase.generate)
many = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=PHASES
)


@many
@given(
    table=long_tables(),
    rule=st.sampled_from(RULES),
    piece=st.sampled_from((1, 300, 2000, 10**7)),
    group=st.integers(1, 40),
    with_candidates=st.booleans(),
    ending=st.sampled_from((".parquet", ".parquet", ".jsonl", ".csv")),
)
def test_any_long_table(table, rule, piece, group, with_candidates, ending):
    both_ways(table, rule, piece=piece, group=group, with_candidates=with_candidates, ending=ending)


@many
@given(
    table=wide_tables(),
    rule=st.sampled_from(RULES),
    piece=st.sampled_from((1, 300, 2000, 10**7)),
    group=st.integers(1, 40),
    with_candidates=st.booleans(),
    ending=st.sampled_from((".parquet", ".parquet", ".jsonl", ".csv")),
)
def test_any_wide_table(table, rule, piece, group, with_candidates, ending):
    both_ways(table, rule, piece=piece, group=group, with_candidates=with_candidates, ending=ending)


@st.composite
def tables_of_conversations(draw) -> pa.Table:
    """Long tables with prompts as lists of messages, of which most are one user turn."""
    table = draw(long_tables())
    dice = random.Random(draw(st.integers(0, 2**32)))
    lone = draw(st.booleans())
    spelled = {}
    for text in set(table["prompt"].to_pylist()):
        user = {"role": "user", "content": text}
        others = ([{"role": "system", "content": "Be brief."}, user], [user | {"role": "assistant"}], [None], [], None)
        spelled[text] = [user] if lone or dice.random() < 0.8 else dice.choice(others)
    prompts = [spelled[text] for text in table["prompt"].to_pylist()]
    place = table.column_names.index("prompt")
    return table.set_column(place, "prompt", pa.array(prompts, MESSAGES))


@many
@given(
    table=tables_of_conversations(),
    rule=st.sampled_from(RULES),
    piece=st.sampled_from((1, 300, 2000, 10**7)),
    group=st.integers(1, 40),
    with_candidates=st.booleans(),
)
def test_any_table_of_conversations(table, rule, piece, group, with_candidates):
    both_ways(table, rule, piece=piece, group=group, with_candidates=with_candidates)


CLEAN = [
    {"prompt": f"prompt {number}", "response": text, "score": score, "source": "s", "index": index}
    for number in range(60)
    for index, (text, score) in enumerate((("good", 2.0), ("best", 2.0), ("bad", 1.0), ("worse", 1.0)))
]


def test_shuffled_clustered_and_wide_tables_give_the_same_pairs_through_many_buckets():
    clustered = pa.Table.from_pylist(CLEAN)
    shuffled = clustered.take(pa.array(random.Random(1).sample(range(len(CLEAN)), len(CLEAN))))
    expected = both_ways(clustered, WPOHybridV2(), group=21)
    assert both_ways(shuffled, WPOHybridV2(), group=17) == expected
    wide = pl.DataFrame(CLEAN).group_by("prompt", maintain_order=True).agg("response", "score").to_arrow()
    of_wide = both_ways(wide, WPOHybridV2())
    assert json.loads(of_wide["ledger.json"])["pairs"] == json.loads(expected["ledger.json"])["pairs"] == 60


PLAIN, SYSTEM = ({"role": "user"}, {"role": "system", "content": "Be brief."})


WHITE_SPACE = [chr(code) for code in range(0x3001) if chr(code).isspace()]


@pytest.mark.parametrize("texts", ["the answer", "<think>{}</think>the answer"])
def test_the_order_of_a_table_changes_no_count_of_pairs_that_differ_in_white_space_only(texts):
    written = [(f"{space}the{space}answer", texts.format(n)) for n, space in enumerate(WHITE_SPACE)]
    rows = [
        {"prompt": f"p{n % 40:02}", "source": source, "response": text, "score": score}
        for n, pair in enumerate([*written, ("the answer", "another"), (texts.format("?"), "the answer now")])
        for source, text, score in zip("ab", pair, (2.0, 1.0), strict=True)
    ]
    audits = []
    for table in (rows, rows[::2] + rows[1::2]):
        found = both_ways(pa.Table.from_pylist(table), BestVsWorst(identical="exact"))
        audits.append(json.loads(found["audit.json"])["measures"])
    assert audits[0] == audits[1]
    assert audits[0]["white_space_only"] == round(len(WHITE_SPACE) / (len(WHITE_SPACE) + 2), 4)
    assert len(WHITE_SPACE) == 29


def test_a_bare_digest_is_that_of_the_text_without_all_that_python_calls_white_space():
    texts = [f"é{chr(code)}x" for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    bare = digest_series(pl.Series(["".join(text.split()) for text in texts]))
    assert bare_digest_series(pl.Series([*texts, None])).to_list() == [*bare, None]
    assert bare_digest_series(pl.Series([" a\tb\x1c"])).to_list() == digest_series(pl.Series(["ab"])).to_list()
    # A text has the mark of any other that differs from it in white space only.
    for sums in (1, 4):
        marks = visible_marks(pl.Series([*texts, *("".join(text.split()) for text in texts), None]), sums)
        assert (marks[: len(texts)] == marks[len(texts) : -1]).all()
        assert (visible_marks(pl.Series(["", " ", None, "\t"]), sums) == 0).all()
        assert (visible_marks(pl.Series(["a b", "\u00e9", "abc"]), sums) != 0).all()
    assert visible_marks(pl.Series(["a b", "\u00e9", "abc"])).to_list() == [2, 2, 3]


@given(st.lists(st.tuples(st.sampled_from("pq"), st.text("a\u00e9\u3000 \n", max_size=5)), min_size=1, max_size=12))
def test_candidates_of_a_prompt_have_one_bare_digest_where_they_differ_in_white_space_only(rows):
    prompts, texts = ([row[side] for row in rows] for side in (0, 1))
    candidates = pl.DataFrame(
        {
            "prompt_id": pl.Series(prompts, dtype=pl.String),
            "source": "s",
            "index": range(len(rows)),
            "response": pl.Series(texts, dtype=pl.String),
            "score": 1.0,
        },
        schema_overrides={"index": pl.Int64},
    )
    parts = facts_of(BestVsWorst(), candidates.with_row_index("at"), whole=False).with_columns(key="prompt_id")
    same_text = alike(parts).select("at", bare=bare_digest_series(alike(parts)["response"]))
    for bare in (facts_of(BestVsWorst(), candidates)["bare"], bare_of_marks(parts, same_text)["bare"]):
        for one, other in combinations(range(len(rows)), 2):
            if prompts[one] == prompts[other]:
                same = "".join(texts[one].split()) == "".join(texts[other].split())
                assert (bare[one] == bare[other]) == same


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("score", lambda row: str(row["score"])),
        ("index", lambda row: float(row["index"])),
        ("prompt", lambda row: [PLAIN | {"content": row["prompt"]}]),
        ("prompt", lambda row: [SYSTEM, PLAIN | {"content": row["prompt"]}]),
        ("prompt", lambda row: [PLAIN | {"content": f" [{row['prompt']}", "name": None}]),
    ],
)
@pytest.mark.parametrize("with_candidates", [False, True])
def test_columns_of_less_common_types_are_read(name, of, with_candidates):
    table = pa.Table.from_pylist([row | {name: of(row)} for row in CLEAN])
    both_ways(table, WPOHybridV2(), with_candidates=with_candidates)


def test_one_user_turn_in_a_list_is_the_same_prompt_as_its_text():
    table = pa.Table.from_pylist(CLEAN)
    turns = pa.array([[PLAIN | {"content": row["prompt"]}] for row in CLEAN])
    assert both_ways(table.set_column(0, "prompt", turns), WPOHybridV2()) == both_ways(table, WPOHybridV2())


def test_a_table_without_prompts_is_read():
    table = pa.Table.from_pylist(CLEAN).rename_columns(["prompt_id", "response", "score", "source", "index"])
    both_ways(table, WPOHybridV2(), with_candidates=True)


def test_a_column_of_categories_is_read_as_its_texts():
    table = pa.Table.from_pylist(CLEAN)
    categories = table.set_column(3, "source", table["source"].dictionary_encode())
    assert both_ways(categories, WPOHybridV2()) == both_ways(table, WPOHybridV2())


def test_large_types_and_whole_number_scores_are_read():
    table = pa.Table.from_pylist(CLEAN).set_column(2, "score", pa.array([int(row["score"]) for row in CLEAN]))
    schema = pa.schema([(f.name, pa.large_string() if f.type == pa.string() else f.type) for f in table.schema])
    assert both_ways(table.cast(schema), WPOHybridV2()) == both_ways(pa.Table.from_pylist(CLEAN), WPOHybridV2())


def test_a_damaged_file_is_one_message_and_leaves_nothing(tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.Table.from_pylist(CLEAN), path, compression="zstd", row_group_size=120)
    damaged = bytearray(path.read_bytes())
    middle = pq.read_metadata(path).row_group(1).column(1).data_page_offset
    damaged[middle : middle + 100] = bytes(100)
    path.write_bytes(bytes(damaged))
    with pytest.raises(InputError, match=r"table\.parquet"):
        pair(path, WPOHybridV2(), tmp_path / "out")
    assert [child.name for child in tmp_path.iterdir()] == ["table.parquet"]


def test_the_digest_of_a_table_sees_one_letter_of_an_answer_that_is_in_no_pair():
    frame = pl.DataFrame(
        {
            "prompt_id": ["p"] * 3,
            "source": ["a"] * 3,
            "index": [0, 1, 2],
            "model": [None] * 3,
            "response": ["best", "middling", "bad"],
            "score": [3.0, 2.0, 1.0],
            "unscored": [None] * 3,
            "finish_reason": [None] * 3,
        },
        schema_overrides=dict.fromkeys(("model", "unscored", "finish_reason"), pl.String),
    )
    changed = frame.with_columns(response=pl.Series(["best", "middlinG", "bad"]))
    assert table_digest(frame) == table_digest(frame[::-1])
    assert table_digest(frame) != table_digest(changed)


WITH_TEXTS = CustomRule(
    chosen=Selection(by=(Highest(),)), rejected=Selection(among=(NotIdentical(how="white_space"),), by=(Lowest(),))
)


@many
@given(table=long_tables(), piece=st.sampled_from((1, 300, 2000)), with_candidates=st.booleans())
def test_a_rule_that_needs_texts_gets_them_in_any_order(table, piece, with_candidates):
    assert WITH_TEXTS.needs_texts()
    both_ways(table, WITH_TEXTS, piece=piece, with_candidates=with_candidates)


def test_only_winners_and_their_prompts_are_put_on_disk_of_a_table_in_any_order(tmp_path, monkeypatch):
    rows = [row | {"response": f"{row['response']} {'x' * 2_000}"} for row in CLEAN]
    random.Random(3).shuffle(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    written = []
    add = Spill.add

    def counted(spill, frame, buckets):
        if "response" in frame.columns:
            written.append(frame["response"].str.len_bytes().sum())
        add(spill, frame, buckets)

    monkeypatch.setattr(Spill, "add", counted)
    ledger = pair(tmp_path / "table.parquet", WPOHybridV2(), tmp_path / "out")
    texts = sum(len(row["response"]) for row in rows)
    assert ledger["pairs"] == 60
    assert abs(sum(written) - texts / 2) < 0.01 * texts, "two of four answers of each prompt win"


def held_bytes(frame: pl.DataFrame) -> int:
    arrays = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    return sum(
        buffer.size for column in arrays.columns for part in column.chunks for buffer in part.buffers() if buffer
    )


@pytest.mark.parametrize("order", ["clustered", "shuffled"])
def test_what_is_kept_to_the_end_does_not_hold_the_pieces_that_it_comes_from(order, tmp_path, monkeypatch):
    lost = 5
    rows = [
        {"prompt": f"{'a long prompt ' * 20}{number}", "response": f"answer {index}", "score": index * (number >= lost)}
        for number in range(1_000)
        for index in range(3)
    ]
    if order == "shuffled":
        random.Random(1).shuffle(rows)
    works, result = [], _Work.result
    monkeypatch.setattr(
        _Work, "result", lambda work, *given, **said: works.append(work) or result(work, *given, **said)
    )
    rows.append({"prompt": rows[0]["prompt"], "response": None, "score": 1})
    table = ScoredTableFile(pl.DataFrame(rows))
    paired_table(table, BestVsWorst(), tmp_path)
    (work,) = works
    kept = [frame for frame in (*work._drops, *work._ineligible) if frame.height]
    assert sum(frame.height for frame in kept) == lost + 1
    assert sum(map(held_bytes, kept)) < 5_000
