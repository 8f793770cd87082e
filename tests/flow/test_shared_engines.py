"""Samplers of one model follow each other and share one start of the engine; their answers are those of one each."""

from __future__ import annotations

import re

import polars as pl
import pytest
from replayed import recipe

from prefdata.flow.build import build
from prefdata.models import Transformers
from prefdata.models.hosted import transformers
from prefdata.models.hosted.base import HostedModel

WORKER = """
from prefdata.models.worker import open_channel

with open_channel() as channel:
    for options in channel.rounds():
        while items := channel.receive():
            for item in items:
                text = f"{channel.config['folder']} {options['decoding']['temperature']} {item['seed']}"
                channel.send({"key": item["key"], "text": text, "finish_reason": "stop"})
"""


@pytest.fixture
def engine(work, monkeypatch):
    """A worker that needs no model."""
    (work / "engine_worker.py").write_text(WORKER)
    monkeypatch.syspath_prepend(str(work))
    monkeypatch.setattr(transformers, "_WORKER", "engine_worker")
    monkeypatch.setattr(HostedModel, "pins", lambda self: {"sha": self.model})
    monkeypatch.setattr(HostedModel, "_config", lambda self, context: {"folder": self.model})
    monkeypatch.setattr(Transformers, "problems", lambda self: [])


def sampler(name, model, **more):
    generator = {"kind": "transformers", "model": model, **more.pop("options", {})}
    return {"kind": "samples", "name": name, "generator": generator, "n": 2, **more}


SAMPLERS = (
    sampler("cold", "one", temperature=0.2),
    sampler("other", "two"),
    sampler("hot", "one", temperature=0.9, n=3, options={"thinking": "cut"}),
    sampler("small", "one", options={"max_model_len": 64}),
    sampler("last", "one", max_tokens=7),
)


def built(candidates, out):
    made = recipe(candidates=candidates, scores={"kind": "baseline"})
    frame = pl.read_parquet(build(made, out, reuse=False, shard_size=5).folder / "stages/candidates-*/shard-*.parquet")
    return frame.sort("source", "prompt_id", "index")


def test_samplers_of_one_model_start_one_engine_and_answer_as_alone(engine, capsys):
    together = built(SAMPLERS, "together")
    said = re.findall(r"starting transformers|candidates-(\w+): .* in →", capsys.readouterr().err)
    assert [name or "start" for name in said] == ["start", "cold", "hot", "last", "start", "other", "start", "small"]
    alone = pl.concat([built((each,), f"alone-{each['name']}") for each in SAMPLERS])
    assert together.equals(alone.sort("source", "prompt_id", "index"))


def test_a_finished_sampler_starts_nothing(engine, capsys):
    built(SAMPLERS[:1], "out")
    capsys.readouterr()
    built((SAMPLERS[0], SAMPLERS[2]), "out")
    assert capsys.readouterr().err.count("starting transformers") == 1
