"""Three iterations of prompts: which prompt is where, and that none is in two places."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from prefdata.errors import InputError
from prefdata.prompts import AnyPrompts, FilePrompts, HubPrompts, SamplePrompts, SnorkelThreeWay
from prefdata.records import Drop, Prompt
from prefdata.spec import Context

PARTS = [f"{split}_iteration_{number}" for number in (1, 2, 3) for split in ("train", "test")]


def source(folder, ids):
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"{key}", "prompt": f"ask {key}"}) + "\n" for key in ids))
    return FilePrompts(path=path, prompt_id_column="id")


def read(part, seed=0, counts=None, **pins):
    def counted(what, n):
        if counts is not None:
            counts[what] += n

    return list(part.read(Context(seed=seed, pins=pins, counted=counted)))


def parts_of(make, seed=0, **more):
    """Part → prompt ids, over all three iterations."""
    found = {name: [] for name in PARTS}
    for number in (1, 2, 3):
        for record in read(make(number), seed=seed, **more):
            if isinstance(record, Prompt):
                found[f"{record.split}_iteration_{number}"].append(record.prompt_id)
    return found


def seeded(folder, ids, train=3, test=1, seed=0):
    where = source(folder, ids)
    return lambda number: SnorkelThreeWay(
        source=where, iteration=number, split="seeded", train_size=train, test_size=test, seed=seed
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 7), st.integers(0, 2**40), st.randoms())
def test_the_seeded_parts_are_disjoint_of_the_sizes_asked_and_blind_to_order(
    tmp_path_factory, train, test, more, seed, random
):
    folder = tmp_path_factory.mktemp("source")
    ids = [f"p{number}" for number in range(3 * (train + test) + more)]
    found = parts_of(seeded(folder, ids, train, test, seed))
    assert [len(found[name]) for name in PARTS] == [train, test] * 3
    everywhere = [prompt_id for name in PARTS for prompt_id in found[name]]
    assert len(set(everywhere)) == len(everywhere)
    mixed = [*ids, *ids[:2]]
    random.shuffle(mixed)
    again = parts_of(seeded(folder, mixed, train, test, seed), seed=1)
    assert {name: set(some) for name, some in again.items()} == {name: set(some) for name, some in found.items()}


def test_the_seeded_split_is_the_same_on_every_machine(tmp_path):
    ids = [f"p{number}" for number in range(13)]
    ordered = sorted(ids, key=lambda key: hashlib.sha256(f'["three_way",0,"{key}"]'.encode()).digest()[:8])
    found = parts_of(seeded(tmp_path, ids))
    assert {*found["test_iteration_1"]} == {*ordered[:1]}
    assert {*found["train_iteration_1"]} == {*ordered[1:4]}
    assert {*found["train_iteration_3"]} == {*ordered[9:12]}
    assert parts_of(seeded(tmp_path, ids, seed=1)) != found


def test_every_row_of_the_source_is_a_prompt_or_a_drop_in_its_order(tmp_path):
    ids = [*(f"p{number}" for number in range(13)), "p0"]
    where = source(tmp_path, ids)
    with where.path.open("a") as file:
        file.write('{"id": "lost", "prompt": ""}\n')
    records = read(SnorkelThreeWay(source=where, iteration=2, split="seeded", train_size=3, test_size=1))
    assert [record.prompt_id for record in records] == [*ids, "lost"]
    # The row that repeats p0 fares as p0 does: repeats are merged later, and counted there.
    assert type(records[0]) is type(records[13])
    told = Counter(record.reason for record in records[:13] if isinstance(record, Drop))
    assert told == {"other_iteration": 8, "in_no_part": 1}
    assert records[14].reason == "blank"
    details = {record.detail for record in records if isinstance(record, Drop) and record.reason == "other_iteration"}
    assert details <= {f"{split} of iteration {number}" for split in ("train", "test") for number in (1, 3)}


def test_too_few_prompts_are_refused_with_sizes_that_would_do(tmp_path):
    ids = [f"p{number}" for number in range(11)]
    with pytest.raises(InputError) as refused:
        read(seeded(tmp_path, ids)(1))
    assert "has 11 different prompts" in str(refused.value)
    assert "need 12" in str(refused.value)
    assert "train_size=2, test_size=1" in str(refused.value)
    assert len(read(seeded(tmp_path, ids, train=2)(1))) == 11
    for count, train, test, hint in ((11, 1, 5, "train_size=1, test_size=2"), (5, 3, 1, "another source")):
        with pytest.raises(InputError, match=f"next:  {hint}"):
            read(seeded(tmp_path, ids[:count], train=train, test=test)(1))


def published(folder, **members):
    path = folder / "ids.jsonl"
    rows = [{"prompt_id": key, "split": name} for name, keys in members.items() for key in keys.split()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = source(folder, "abcdefgh")
    return lambda number: SnorkelThreeWay(source=where, iteration=number, ids=path)


def test_published_ids_decide_whatever_is_missing_or_left_over(tmp_path):
    counts = Counter()
    make = published(
        tmp_path, train_iteration_1="a b z", test_iteration_1="c", train_iteration_2="d", test_iteration_3="e"
    )
    records = read(make(1), counts=counts)
    assert [(r.prompt_id, r.split) for r in records if isinstance(r, Prompt)] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "test"),
    ]
    assert {r.prompt_id: (r.reason, r.detail) for r in records if isinstance(r, Drop)} == {
        "d": ("other_iteration", "train of iteration 2"),
        "e": ("other_iteration", "test of iteration 3"),
        **{key: ("in_no_part", f"prompts.jsonl, row {row}") for key, row in zip("fgh", (6, 7, 8), strict=True)},
    }
    assert counts["published_ids_not_in_the_source"] == 1
    assert counts["published_ids_in_two_parts"] == 0


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(PARTS), st.lists(st.sampled_from("abcdefgh"), min_size=1), min_size=1))
def test_published_ids_that_stand_twice_never_make_a_prompt_trained_on_and_tested(tmp_path_factory, members):
    make = published(tmp_path_factory.mktemp("ids"), **{name: " ".join(keys) for name, keys in members.items()})
    parts = []
    for number in (1, 2, 3):
        try:
            records = read(make(number))
        except InputError as error:
            assert "none of the" in str(error)
            continue
        parts += [(r.prompt_id, number, r.split) for r in records if isinstance(r, Prompt)]
    assert len({prompt_id for prompt_id, _, _ in parts}) == len(parts)
    tested = {key for name in PARTS if name.startswith("test") for key in members.get(name, ())}
    assert not tested & {prompt_id for prompt_id, _, split in parts if split == "train"}


def test_ids_that_have_nothing_to_do_with_the_source_are_refused(tmp_path):
    make = published(tmp_path, train_iteration_1="x y", train_iteration_2="a")
    with pytest.raises(InputError) as refused:
        read(make(1))
    assert "none of the 2 published prompt ids of iteration 1 is among the 8 prompts" in str(refused.value)
    assert 'split="seeded"' in str(refused.value)


def test_a_table_of_ids_is_pinned_and_its_mistakes_have_a_row(tmp_path):
    make = published(tmp_path, train_iteration_1="a", train_iteration_9="b")
    with pytest.raises(InputError, match=r"row 2: prompt_id 'b', split 'train_iteration_9'"):
        read(make(1))
    make = published(tmp_path, train_iteration_1="a")
    pins = make(1).pins()
    assert set(pins) == {"source", "ids"}
    assert [r.prompt_id for r in read(make(1), **pins) if isinstance(r, Prompt)] == ["a"]
    published(tmp_path, train_iteration_1="b")
    with pytest.raises(InputError, match="has changed since it was locked"):
        read(make(1), **pins)


def test_without_a_hub_the_published_split_fails_with_one_message_that_says_what_to_do():
    with pytest.raises(InputError) as refused:
        SnorkelThreeWay(source=SamplePrompts(), iteration=1).pins()
    assert str(refused.value).startswith("the published three-way split can't be read: ")
    assert 'next:  `split="seeded"`' in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"iteration": 4},
        {"split": "seeded", "ids": "ids.jsonl"},
        {"split": "seeded", "revision": "v1"},
        {"ids": "ids.jsonl", "revision": "v1"},
        {"source": {"kind": "snorkel_three_way", "source": {"kind": "sample"}, "iteration": 1}},
        {"train_size": 0},
        {"split": "ours"},
    ],
)
def test_impossible_splits_are_refused(options):
    with pytest.raises(ValidationError):
        SnorkelThreeWay(**{"source": SamplePrompts(), "iteration": 1, **options})


@pytest.mark.parametrize(
    "part",
    [
        SnorkelThreeWay(source=HubPrompts(dataset="a/b", prompt_id_column="prompt_id"), iteration=3, revision="v1"),
        SnorkelThreeWay(source=SamplePrompts(), iteration=1, split="seeded", train_size=80, test_size=6),
    ],
)
def test_it_survives_the_json_round_trip(part):
    assert TypeAdapter(AnyPrompts).validate_json(json.dumps(part.dump())) == part
