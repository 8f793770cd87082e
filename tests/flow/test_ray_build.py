"""Builds on two real Ray nodes: the bytes of a local build, whatever is killed meanwhile."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import Nodes, ray_nodes
from replayed import recipe as replayed
from replayed import tree, write_tables
from test_iterate import recipe as sampled_recipe
from test_iterate import write_workshop
from test_jobs import made
from tiny_reward import save_model

from prefdata.flow.build import build
from prefdata.flow.engines.ray import Ray
from prefdata.pairing import BestVsWorst
from prefdata.recipe import Recipe

GUARD_S = 240
"""What a test waits for has come long before this, or never will."""
ANSWERS = 360


def sampled() -> Recipe:
    """120 prompts with three answers each, by a tiny model, one after the other."""
    whole = sampled_recipe().dump()
    whole["candidates"][0]["generator"]["batch_size"] = 1
    whole.pop("training")
    whole.pop("iterations")
    return Recipe.model_validate(whole)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes(1) as nodes:
        yield nodes


@pytest.fixture
def engine(nodes) -> Ray:
    return Ray(address=nodes.address, actors=2)


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Path:
    """A folder with everything that the two recipes name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_workshop(tmp_path, sampled())
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
    rows = [{"prompt": f"{json.loads(line)['prompt']} {n}"} for n in range(4) for line in lines]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def tables(tmp_path, monkeypatch) -> Path:
    """A folder with the tables and the reward model of `test_jobs.made`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_model(tmp_path / "model")
    write_tables(tmp_path)
    row = {"id": "p10", "chosen": "good", "rejected": "bad", "score_chosen": 2, "score_rejected": 1}
    (tmp_path / "published.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def stages(folder: str) -> dict[str, str]:
    """Everything but the records of versions, which name the same ones."""
    return tree(Path(folder, "stages")) | tree(Path(folder, "dataset"))


def test_every_kind_of_stage_gives_the_bytes_of_this_machine(tables, engine, capsys):
    for out, given in (("here", None), ("there", engine)):
        build(made(), out, shard_size=5, reuse=False, engine=given)
    assert "Ray: nodes 2, CPUs 2, GPUs 0" in capsys.readouterr().err
    assert stages("here") == stages("there")


def test_a_model_that_samples_gives_the_bytes_of_this_machine(shop, engine):
    for out, given in (("here", None), ("there", engine)):
        build(sampled(), out, reuse=False, engine=given)
    assert stages("here") == stages("there")


def test_a_rule_of_ones_own_pairs_here(tables, engine):
    class Longest(BestVsWorst):
        """A rule that no node could import."""

    recipe = replayed().replace(pairs=Longest())
    for out, given in (("here", None), ("there", engine)):
        build(recipe, out, shard_size=5, reuse=False, engine=given)
    assert stages("here") == stages("there")


def test_a_finished_build_asks_for_no_cluster(tables):
    build(replayed(), "out")
    before = stages("out")
    build(replayed(), "out", engine=Ray(address="127.0.0.1:1"))
    assert stages("out") == before


def start(nodes: Nodes, printed: Path) -> subprocess.Popen[str]:
    words = ["build", "rounds.json", "--no-reuse", "--json-lines", "--out", "there", "--engine", "ray"]
    words += ["--address", nodes.address, "--actors", "2"]
    command = [sys.executable, "-m", "prefdata", *words]
    with printed.open("w") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)


def events(printed: Path) -> list[dict[str, Any]]:
    """Whatever Ray has to report, standard output holds events, and nothing else."""
    return [json.loads(line) for line in printed.read_text().splitlines()]


def when(happened: Callable[[], bool], act: Callable[[], None]) -> None:
    until = time.monotonic() + GUARD_S
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)
    act()


def journalled() -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path("there").glob("stages/candidates-*/journal-*.jsonl"))


def test_a_killed_node_and_a_killed_driver_cost_only_what_was_under_way(shop, nodes):
    build(sampled(), "here", reuse=False)
    printed, lost = shop / "first.jsonl", "was lost with its node or actor"
    first = start(nodes, printed)
    try:
        when(lambda: journalled() >= 30, lambda: nodes.kill(nodes.workers[0]))
        # However fast the others answer meanwhile, the loss is reported before the driver is killed.
        when(lambda: journalled() >= 120 and lost in printed.read_text(), first.kill)
    finally:
        first.kill()
        first.communicate(timeout=GUARD_S)
        nodes.add()
    assert any(lost in each.get("text", "") for each in events(printed))
    kept = journalled()
    assert 120 <= kept < ANSWERS
    second = start(nodes, shop / "second.jsonl")
    _, said = second.communicate(timeout=GUARD_S)
    assert second.returncode == 0, said
    sampling = [each for each in events(shop / "second.jsonl") if each.get("stage") == "candidates-policy"]
    assert sampling[0]["done"] >= kept
    assert sampling[-1]["done"] == ANSWERS
    assert stages("here") == stages("there")


def test_a_node_that_is_killed_while_pairs_are_made_changes_nothing(shop, nodes, engine):
    build(sampled(), "here", reuse=False, shard_size=1)
    shutil.copytree("here", "there")
    (pairs,) = Path("there").glob("stages/pairs-*")
    shutil.rmtree(pairs)
    shutil.rmtree("there/dataset")
    over = threading.Event()

    def kill_one() -> None:
        when(lambda: over.is_set() or len(list(pairs.glob("shard-*.parquet"))) > 2, lambda: None)
        nodes.kill(nodes.workers[0])

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        build(sampled(), "there", reuse=False, shard_size=1, engine=engine)
    finally:
        over.set()
        thread.join()
        nodes.add()
    assert stages("here") == stages("there")
