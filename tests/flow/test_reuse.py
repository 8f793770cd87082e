"""Nothing is asked twice: results are kept by what they depend on, and what is reused has the same bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_server import Endpoint
from counting_endpoint import JUDGES, PROMPTS, answering, recipe, write_prompts

from prefdata.flow import score_groups
from prefdata.flow.answer_store import FOLDER
from prefdata.flow.build import build
from prefdata.flow.journal import guarded_line, text_of_line
from prefdata.flow.plan import plan
from prefdata.recipe import Recipe
from prefdata.records import Score, Scored


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with answering() as endpoint:
        yield endpoint


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_prompts(tmp_path / "prompts.jsonl")
    return tmp_path


def asked_by(server: Endpoint, run: Callable[[], object]) -> int:
    before = len(server.bodies)
    run()
    return len(server.bodies) - before


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def built(made: Recipe, out: str, **options: Any) -> dict[str, bytes]:
    return files(build(made, out, **options).dataset)


def shelves(store: Path) -> list[Path]:
    return sorted(store.rglob("*.jsonl"))


CHANGES: dict[str, Callable[[str, Path], Recipe]] = {
    "another folder": lambda url, work: recipe(url, work / "prompts.jsonl"),
    "another name": lambda url, work: recipe(url, work / "prompts.jsonl", name="renamed"),
    "a larger limit": lambda url, work: recipe(url, work / "prompts.jsonl", limit=PROMPTS),
    "one more prompt": lambda url, work: recipe(url, work / "more.jsonl"),
    "a looser filter": lambda url, work: recipe(url, work / "prompts.jsonl", filters=[]),
    "n from 4 to 6": lambda url, work: recipe(url, work / "prompts.jsonl", n=6),
    "another rule": lambda url, work: recipe(url, work / "prompts.jsonl", pairs={"kind": "wpo_hybrid_v2"}),
}
FIRST: dict[str, dict[str, Any]] = {
    "a larger limit": {"limit": 9},
    "a looser filter": {"filters": [{"kind": "length", "at_most": 10}]},
}
"""What the first build has besides, where it is not the plain recipe."""


def needed(change: str, judge: str) -> int:
    """What no earlier build has asked: answers, and verdicts on prompts or answers that are new."""
    verdicts = {"pointwise_judge": 4, "pairwise_judge": 12, "additive_judge": 1}[judge]
    match change:
        case "a larger limit":
            return (PROMPTS - 9) * (4 + verdicts)
        case "one more prompt":
            return 4 + verdicts
        case "a looser filter":
            return (PROMPTS - 10) * (4 + verdicts)
        case "n from 4 to 6":
            return PROMPTS * (2 + {"pointwise_judge": 2, "pairwise_judge": 30 - 12, "additive_judge": 1}[judge])
    return 0


@pytest.mark.parametrize(
    ("change", "judge"),
    [*((change, "pointwise_judge") for change in CHANGES), *(("n from 4 to 6", judge) for judge in JUDGES[1:])],
)
def test_only_what_no_build_has_asked_is_asked_and_the_bytes_are_those_of_a_build_without_reuse(
    change, judge, server, work
):
    write_prompts(work / "more.jsonl", extra=1)
    first = recipe(server.url, work / "prompts.jsonl", judge=judge)
    first, second = (made.replace(scores=first.scores) for made in (first, CHANGES[change](server.url, work)))
    build(first.replace(**FIRST.get(change, {})), "builds/first")
    results: dict[str, dict[str, bytes]] = {}
    asked = asked_by(server, lambda: results.update(reused=built(second, "builds/second")))
    assert asked == needed(change, judge)
    every = asked_by(server, lambda: results.update(anew=built(second, "builds/anew", reuse=False)))
    assert every > asked
    assert results["reused"] == results["anew"]


def test_what_a_build_reused_is_on_record_beside_the_dataset(server, work, capsys):
    made = recipe(server.url, work / "prompts.jsonl")
    build(made, "builds/first")
    build(made, "builds/second")
    assert "candidates-teacher: 48 in → 48 out; reused 48" in capsys.readouterr().err
    [record] = Path("builds/second/stages").glob("candidates-teacher-*/stage.json")
    assert json.loads(record.read_text())["reused"] == 48
    assert not Path("builds/second/spending.jsonl").exists()


def test_a_store_that_is_named_is_the_one_that_counts(server, work):
    made = recipe(server.url, work / "prompts.jsonl")
    build(made, "builds/first", reuse="kept")
    assert not Path("builds/.cache").exists()
    assert asked_by(server, lambda: build(made, "builds/second")) == 8 * PROMPTS
    assert asked_by(server, lambda: build(made, "builds/third", reuse="kept")) == 0


def test_check_says_how_many_are_there(server, work, prefdata):
    made = recipe(server.url, work / "prompts.jsonl", n=4)
    more = recipe(server.url, work / "prompts.jsonl", n=6)
    assert plan(more, "builds/second").estimate.there == ()
    build(made, "builds/first")
    estimate = plan(more, "builds/second").estimate
    assert [(kept.stage, kept.there, kept.requests) for kept in estimate.there] == [
        ("candidates-teacher", 4 * PROMPTS, 6 * PROMPTS),
        ("scores", 4 * PROMPTS, 6 * PROMPTS),
    ]
    assert [(stage.stage, stage.requests) for stage in estimate.stages] == [
        ("candidates-teacher", 2 * PROMPTS),
        ("scores", 2 * PROMPTS),
    ]
    assert plan(more, "builds/second", reuse=False).estimate.totals["requests"] == 12 * PROMPTS
    Path("recipe.json").write_text(json.dumps(more.dump()))
    said = prefdata("check", "recipe.json", "--out", "builds/second")
    assert "candidates-teacher: 48 of 72 are there already" in said.out
    assert "there already" not in prefdata("check", "recipe.json", "--out", "builds/second", "--no-reuse").out
    assert plan(made, "builds/first").estimate.there == ()


def test_check_writes_nothing(server, work):
    plan(recipe(server.url, work / "prompts.jsonl"), "builds/first")
    assert not (work / "builds").exists()


def damaged_at(content: bytes, line: int, change: Callable[[bytes], bytes]) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:line], change(lines[line]), *lines[line + 1 :]])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda line: line[:100] + bytes([line[100] ^ 1]) + line[101:],
    "the key": lambda line: line[:20] + b"0" + line[21:] if line[20:21] != b"0" else line[:20] + b"1" + line[21:],
    "the checksum": lambda line: b"00000000" + line[8:],
    "half a line": lambda line: line[: len(line) // 2] + b"\n",
    "an empty line": lambda line: b"\n",
    "no text": lambda line: b"\x00" * 200 + b"\n",
}


def test_damaged_lines_are_passed_over_counted_and_asked_again(server, work, capsys):
    made = recipe(server.url, work / "prompts.jsonl", judge=None)
    first = built(made, "builds/first")
    [shelf] = shelves(Path("builds/.cache"))
    content = shelf.read_bytes()
    for number, change in enumerate(DAMAGES.values()):
        content = damaged_at(content, 3 + 2 * number, change)
    shelf.write_bytes(content)
    second: dict[str, bytes] = {}
    assert asked_by(server, lambda: second.update(built(made, "builds/second"))) == len(DAMAGES)
    assert second == first
    assert f"{len(DAMAGES)} damaged lines are passed over" in capsys.readouterr().err
    # What was asked again is there now.
    assert asked_by(server, lambda: build(made, "builds/third")) == 0


def test_a_torn_last_line_is_no_damage(server, work, capsys):
    made = recipe(server.url, work / "prompts.jsonl", judge=None)
    first = built(made, "builds/first")
    [shelf] = shelves(Path("builds/.cache"))
    shelf.write_bytes(shelf.read_bytes()[:-30])
    assert built(made, "builds/second") == first
    assert "damaged" not in capsys.readouterr().err


def test_scores_that_failed_for_a_passing_reason_are_not_kept():
    form = score_groups._Groups()
    lasting = Score("p", "s", 0, None, "control_tokens", "")
    kept, passing = (
        Scored("p", (replace(lasting, unscored=reason),)) for reason in ("control_tokens", "template_failed")
    )
    assert form.dump((kept,)) is not None
    assert form.dump((kept, passing)) is None


def test_what_becomes_of_reasoning_asks_nothing_again(server, work):
    made = recipe(server.url, work / "prompts.jsonl", judge=None).dump()
    built(Recipe.model_validate(made), "builds/first")
    made["candidates"][0]["generator"]["thinking"] = "cut"
    assert asked_by(server, lambda: built(Recipe.model_validate(made), "builds/second")) == 0


VALUES = [
    b"",
    b"null",
    b"{}",
    b"[" * 100_000,
    b'{"key": "", "text": null}',
    b'{"key": "", "text": 5}',
    b'{"key": "", "text": "\\ud800"}',
    b'{"key": "", "text": "a", "n_tokens": 99999999999999999999}',
    b'{"key": "", "text": "a", "n_tokens": 1.5}',
    b'{"key": "", "text": "a", "finish_reason": 5}',
    b'{"key": "", "text": "a", "failure": "and failed"}',
    b'{"key": "", "text": "a", "top_logprobs": [[["b", NaN]]]}',
    b"\xff\xfe",
]


def test_values_that_are_no_replies_are_asked_again_though_their_lines_are_whole(server, work):
    made = recipe(server.url, work / "prompts.jsonl", judge=None)
    first = built(made, "builds/first")
    [shelf] = shelves(Path("builds/.cache"))
    head, *lines = shelf.read_bytes().splitlines(keepends=True)
    keys = [(text_of_line(line) or b"").partition(b" ")[0] for line in lines]
    forged = [guarded_line(key + b" " + VALUES[place % len(VALUES)]) for place, key in enumerate(keys)]
    shelf.write_bytes(head + b"".join(forged))
    second: dict[str, bytes] = {}
    assert asked_by(server, lambda: second.update(built(made, "builds/second"))) == 4 * PROMPTS > len(VALUES)
    assert second == first


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "empty", "no head", "foreign head"])
def test_what_is_not_a_file_of_ours_is_not_read(kind, server, work):
    made = recipe(server.url, work / "prompts.jsonl", judge=None)
    first = built(made, "builds/first")
    [shelf] = shelves(Path("builds/.cache"))
    content = shelf.read_bytes()
    shelf.unlink()
    match kind:
        case "link":
            (work / "elsewhere").write_bytes(content)
            shelf.symlink_to(work / "elsewhere")
        case "pipe":
            os.mkfifo(shelf)
        case "folder":
            shelf.mkdir()
        case "empty":
            shelf.touch()
        case "no head":
            shelf.write_bytes(b"".join(content.splitlines(keepends=True)[1:]))
        case "foreign head":
            rest = b"".join(content.splitlines(keepends=True)[1:])
            shelf.write_bytes(guarded_line(b'packages {"<script>": "1"}') + rest)
    second: dict[str, bytes] = {}
    asked = asked_by(server, lambda: second.update(built(made, "builds/second")))
    # The first line of a file without its head is taken for it, and no other is believed.
    assert asked == 4 * PROMPTS
    assert second == first


def test_files_of_another_user_count_only_in_a_store_that_was_named(server, work, monkeypatch):
    made = recipe(server.url, work / "prompts.jsonl", judge=None)
    build(made, "builds/first")
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    assert asked_by(server, lambda: build(made, "builds/second", reuse="builds/.cache")) == 0
    assert asked_by(server, lambda: build(made, "builds/third")) == 4 * PROMPTS


def test_a_store_that_can_not_be_written_stops_no_build(server, work, capsys):
    made = recipe(server.url, work / "prompts.jsonl", judge=None)
    Path("builds").mkdir()
    Path("builds/.cache").write_text("a file")
    first = built(made, "builds/first")
    assert "is not kept for other builds" in capsys.readouterr().err
    assert Path("builds/.cache").read_text() == "a file"
    assert built(made, "builds/second", reuse=False) == first


def test_two_builds_at_once_have_the_bytes_of_one_and_leave_a_whole_store(server, work):
    made = recipe(server.url, work / "prompts.jsonl")
    alone = built(made, "alone/first", reuse=False)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda name: built(made, f"builds/{name}"), ("one", "two")))
    assert both == [alone, alone]
    assert asked_by(server, lambda: build(made, "builds/three")) == 0


def test_the_store_outlives_the_build_that_filled_it(server, work):
    made = recipe(server.url, work / "prompts.jsonl")
    first = built(made, "builds/first")
    shutil.rmtree("builds/first")
    second: dict[str, bytes] = {}
    assert asked_by(server, lambda: second.update(built(made, "builds/first"))) == 0
    assert second == first
    assert {path.parent.parent.name for path in shelves(Path("builds/.cache"))} == {FOLDER}


OTHERS: dict[str, dict[str, Any]] = {
    "another seed": {"seed": 1},
    "another temperature": {"temperature": 0.5},
    "another token limit": {"max_tokens": 77},
    "another name of the sampler": {"name": "pupil"},
    "another model": {"model": "other"},
    "another body": {"extra_body": {"top_k": 3}},
}


def test_what_would_be_another_answer_is_asked(server, work):
    made = recipe(server.url, work / "prompts.jsonl", judge=None, limit=2)
    build(made, "builds/first")
    for number, changes in enumerate(OTHERS.values()):
        changed = made.dump()
        for name, value in changes.items():
            sampler = changed["candidates"][0]
            place = changed if name == "seed" else sampler["generator"] if name in sampler["generator"] else sampler
            place[name] = value
        other = Recipe.model_validate(changed)
        assert asked_by(server, lambda other=other, number=number: build(other, f"builds/{number}")) == 8, changes


def test_a_prompt_of_the_same_id_with_another_text_is_asked(server, work):
    build(recipe(server.url, work / "prompts.jsonl", judge=None), "builds/first")
    text = (work / "prompts.jsonl").read_text()
    (work / "prompts.jsonl").write_text(text.replace("question 3", "another question"))
    made = recipe(server.url, work / "prompts.jsonl", judge=None)
    assert asked_by(server, lambda: build(made, "builds/second")) == 4
