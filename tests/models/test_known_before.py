"""What the small files of a model say is wrong with it, `check` says, before anything is spent."""

from __future__ import annotations

import json

import pytest

from prefdata import check
from prefdata.errors import ModelError, UserError
from prefdata.models import VLLM, Local, Transformers
from prefdata.pairing import BestVsWorst
from prefdata.prompts import SamplePrompts
from prefdata.recipe import Recipe
from prefdata.sampling import SampleAnswers, Samples
from prefdata.scoring import GPM, ArmoRM, PointwiseJudge, RewardModel

TEMPLATE = "{{ messages }}"
CLASSIFIER = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}


def made(folder, template=TEMPLATE, **config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CLASSIFIER, **config}))
    (folder / "tokenizer_config.json").write_text(json.dumps({} if template is None else {"chat_template": template}))
    return str(folder)


@pytest.mark.parametrize("part", [VLLM, Transformers, Local, RewardModel, ArmoRM, GPM])
@pytest.mark.parametrize("template", [None, ""])
def test_a_base_model_is_refused_when_it_is_pinned(tmp_path, part, template):
    with pytest.raises(ModelError, match="no chat template"):
        part(model=made(tmp_path / "m", template)).pins()
    assert part(model=made(tmp_path / "n")).pins()["chat_template_sha256"]


WRONG = {
    "two labels": ({"id2label": {"0": "a", "1": "b"}}, "has 2 labels"),
    "labels that are not named": ({"id2label": None}, "has 2 labels"),
    "a language model": ({"architectures": ["LlamaForCausalLM"]}, "not a sequence classifier but LlamaForCausalLM"),
    "a model of no kind": ({"architectures": None}, "unnamed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_reward_model_is_refused_when_it_is_pinned(tmp_path, case):
    config, words = WRONG[case]
    with pytest.raises(ModelError, match=words):
        RewardModel(model=made(tmp_path / "m", **config)).pins()
    assert RewardModel(model=made(tmp_path / "n", id2label=None, num_labels=1)).pins()


def recipe(sampler=None, scorer=None):
    return Recipe(
        name="known",
        prompts=SamplePrompts(),
        candidates=(sampler or SampleAnswers(name="s"),),
        scores=scorer or RewardModel(model="missing/"),
        pairs=BestVsWorst(),
    )


def test_check_says_it(tmp_path):
    base = made(tmp_path / "base", None)
    pair = made(tmp_path / "pair", id2label={"0": "a", "1": "b"})
    wrong = [
        recipe(Samples(name="s", generator=Local(model=base))),
        recipe(scorer=PointwiseJudge(generator=Local(model=base))),
        recipe(scorer=RewardModel(model=base)),
        recipe(scorer=RewardModel(model=pair)),
        recipe(scorer=RewardModel(model=str(tmp_path / "not there"))),
        recipe(scorer=GPM(model=str(tmp_path / "not there"))),
    ]
    for each in wrong:
        with pytest.raises(UserError, match=r"no chat template|labels|neither a local folder") as said:
            check(each, out=tmp_path / "b")
        assert said.value.hint
    assert not (tmp_path / "b").exists()
