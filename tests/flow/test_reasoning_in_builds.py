"""What a model wrote before its answers is in the build beside them, in no dataset, and in no file without any."""

from __future__ import annotations

import json

import pytest

from prefdata import Recipe, build, verify
from prefdata.flow.reader import BuildReader
from prefdata.pairing import BestVsWorst
from prefdata.prompts import FilePrompts
from prefdata.sampling import ExistingCompletions
from prefdata.scoring import GivenScores

THOUGHT = "<think>\nTwo and two.\n</think>\n\n"


def built(folder, reasoning, **options):
    folder.mkdir()
    rows = [
        {"prompt": f"{n}+{n}?", "response": f"{reasoning if n < 3 else ''}{n}{better}", "score": better}
        for n in range(7)
        for better in range(2)
    ]
    table = folder / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe(
        name="thoughts",
        prompts=FilePrompts(path=table),
        candidates=(ExistingCompletions(name="old", path=table, score_column="score", **options),),
        scores=GivenScores(),
        pairs=BestVsWorst(),
    )
    build(recipe, out=folder / "b", shard_size=3)
    return BuildReader(folder / "b")


def texts(reader):
    return {row["response"] for shard in reader.shards for row in reader.candidates(shard).to_pylist()}


def reasons(reader):
    return [row for shard in reader.shards for row in reader.reasoning(shard).to_pylist()]


def test_reasoning_lies_beside_the_answers(tmp_path):
    plain, kept = built(tmp_path / "plain", ""), built(tmp_path / "kept", THOUGHT)
    assert texts(plain) == texts(kept)
    assert {row["reasoning"] for row in reasons(kept)} == {"Two and two."}
    assert len({(row["prompt_id"], row["source"], row["index"]) for row in reasons(kept)}) == 6
    assert reasons(plain) == []


def test_no_file_speaks_of_reasoning_where_there_is_none(tmp_path):
    for name, given, options in (("plain", "", {}), ("cut", THOUGHT, {"thinking": "cut"})):
        reader = built(tmp_path / name, given, **options)
        assert reasons(reader) == []
        assert not list(reader.folder.root.rglob("reasoning-*"))


def test_published_are_the_answers_alone_and_they_verify(tmp_path):
    reader = built(tmp_path / "kept", THOUGHT)
    dataset = reader.folder.dataset
    assert not any(b"Two and two" in path.read_bytes() for path in dataset.rglob("*") if path.is_file())
    assert not verify(dataset).mismatches


@pytest.mark.parametrize("lost", ["reasoning-00000.parquet", "shard-00000.parquet", "reasoning-00001.parquet"])
def test_a_damaged_file_of_reasoning_is_named_and_made_again(tmp_path, lost):
    reader = built(tmp_path / "kept", THOUGHT)
    before = reasons(reader)
    (path,) = reader.folder.root.glob(f"stages/candidates*/{lost}") or (None,)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    build(reader.recipe, out=reader.folder.root, shard_size=3, repair=True)
    assert path.read_bytes() == whole
    assert reasons(BuildReader(reader.folder.root)) == before
