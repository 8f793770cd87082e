"""A recipe from elsewhere: every field is marked, every way in is refused unless it is granted by itself."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import TypeAdapter

import prefdata
from prefdata.errors import RecipeError
from prefdata.models import AnyGenerator
from prefdata.recipe import load_recipe
from prefdata.recipe.trust import is_trusted
from prefdata.spec import Spec
from prefdata.spec.code import code_allowed
from prefdata.spec.marks import Acts, Harmless, mark_of, unmarked
from prefdata.spec.trust import GRANTS, Grants, wants


def every_spec() -> list[type[Spec]]:
    """All classes of parts that prefdata defines, wherever they are."""
    for module in pkgutil.walk_packages(prefdata.__path__, "prefdata."):
        # Workers, and the command itself, do something when they are imported, and define no part.
        if "._" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def below(root: type[Spec]) -> Iterator[type[Spec]]:
        for spec in root.__subclasses__():
            yield spec
            yield from below(spec)

    return sorted({spec for spec in below(Spec) if spec.__module__.startswith("prefdata.")}, key=lambda s: s.__name__)


SPECS = every_spec()


def types_in(annotation: Any) -> Iterator[Any]:
    yield get_origin(annotation) or annotation
    for inner in get_args(annotation):
        yield from types_in(inner)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_every_field_is_marked(spec):
    assert unmarked(spec) == []
    for name, info in spec.model_fields.items():
        if Path in types_in(info.annotation):
            assert isinstance(mark_of(spec, name), Acts), name
        # A mapping of anything is what another package takes as options.
        if Any in types_in(info.annotation) and {dict, Mapping} & set(types_in(info.annotation)):
            assert isinstance(mark_of(spec, name), Acts), name
        # Names that say what a field names.
        if {"path", "url", "env", "repo", "file", "folder", "address", "code"} & set(name.split("_")):
            assert isinstance(mark_of(spec, name), Acts), name


def test_a_class_with_an_unmarked_field_cannot_be_defined():
    with pytest.raises(TypeError, match="Careless: mark address as Harmless or Acts"):
        type("Careless", (Spec,), {"__module__": "prefdata.models", "__annotations__": {"address": str}, "address": ""})
    marked = {"address": Annotated[str, Harmless]}
    type("Careful", (Spec,), {"__module__": "prefdata.models", "__annotations__": marked, "address": ""})
    # A part of the user's own is code, which is granted as such.
    type("Mine", (Spec,), {"__module__": "mine", "__annotations__": {"address": str}, "address": ""})


BASE: dict[str, Any] = {
    "name": "x",
    "prompts": {"kind": "sample"},
    "candidates": [{"kind": "sample_answers", "name": "teacher"}],
    "scores": {"kind": "baseline"},
    "pairs": {"kind": "best_vs_worst"},
}


def sampled(**generator: Any) -> dict[str, Any]:
    return {"candidates": [{"kind": "samples", "name": "policy", "generator": {"model": "a/b", **generator}}]}


def vllm(**options: Any) -> dict[str, Any]:
    return sampled(kind="vllm", **options)


def chat(**options: Any) -> dict[str, Any]:
    return sampled(kind="chat_endpoint", **options)


def table(**options: Any) -> dict[str, Any]:
    return {"candidates": [{"kind": "existing", "name": "r", **options}]}


def decontaminated(**options: Any) -> dict[str, Any]:
    return {"filters": [{"kind": "decontaminate", "sets": [{"name": "e", "column": "q", **options}]}]}


def three_way(**options: Any) -> dict[str, Any]:
    prompts = {"kind": "snorkel_three_way", "iteration": 1, "source": {"kind": "hub", "dataset": "a/b"}}
    return {"prompts": {**prompts, **options}}


def scored(**options: Any) -> dict[str, Any]:
    return {"scores": {"kind": "reward_model", "model": "a/b", **options}}


def trained(**options: Any) -> dict[str, Any]:
    return {"training": {"kind": "dpo", "model": "a/b", **options}}


def judged(**generator: Any) -> dict[str, Any]:
    return {"scores": {"kind": "additive_judge", "generator": {"model": "a/b", **generator}}}


PLUGIN = {"reasoning_parser_plugin": "/home/u/.cache/evil.py"}
WAYS: list[tuple[dict[str, Any], str, str]] = [
    # Files of this machine.
    ({"prompts": {"kind": "file", "path": "/etc/passwd"}}, "prompts.path", "paths"),
    ({"prompts": {"kind": "file", "path": "secrets.jsonl"}}, "prompts.path", "paths"),
    ({"prompts": {"kind": "hub", "dataset": ".."}}, "prompts.dataset", "paths"),
    ({"prompts": {"kind": "hub", "dataset": "../x"}}, "prompts.dataset", "paths"),
    ({"prompts": {"kind": "hub", "dataset": "here/lies"}}, "prompts.dataset", "paths"),
    (three_way(ids="ids.csv"), "prompts.ids", "paths"),
    (three_way(source={"kind": "file", "path": "/etc/shadow"}), "prompts.source.path", "paths"),
    (table(path="~/.ssh/id_ed25519"), "candidates.0.path", "paths"),
    (table(dataset="here/lies"), "candidates.0.dataset", "paths"),
    ({"backfill": {"kind": "published_pairs", "name": "b", "path": "p.csv"}}, "backfill.path", "paths"),
    (decontaminated(path="/etc/hosts"), "filters.0.sets.0.path", "paths"),
    (decontaminated(dataset="../..", split="s"), "filters.0.sets.0.dataset", "paths"),
    (decontaminated(dataset="a/b", file="C:\\x.jsonl"), "filters.0.sets.0.file", "paths"),
    (vllm(model="/models/mine"), "candidates.0.generator.model", "paths"),
    (vllm(model="here/lies"), "candidates.0.generator.model", "paths"),
    (vllm(model="a" * 5_000), "candidates.0.generator.model", "paths"),
    (vllm(lora="./adapter"), "candidates.0.generator.lora", "paths"),
    (sampled(kind="local", model="~/models/mine"), "candidates.0.generator.model", "paths"),
    (sampled(kind="transformers", model="s3://bucket/model"), "candidates.0.generator.model", "paths"),
    (judged(kind="vllm", model="../model"), "scores.generator.model", "paths"),
    (scored(model="/models/reward"), "scores.model", "paths"),
    ({"scores": {"kind": "pair_rm", "model": "here/lies"}}, "scores.model", "paths"),
    ({"scores": {"kind": "armorm", "model": "here/lies"}}, "scores.model", "paths"),
    (trained(model="/models/base"), "training.model", "paths"),
    # Addresses and keys.
    (chat(base_url="https://collector.example/v1"), "candidates.0.generator.base_url", "endpoint=https://collector"),
    (chat(base_url="http://127.0.0.1:2375/v1"), "candidates.0.generator.base_url", "endpoint=http://127.0.0.1:2375/v1"),
    (chat(base_url="http://localhost/v1"), "candidates.0.generator.base_url", "endpoint=http://localhost/v1"),
    (chat(base_url="http://[::1]:80"), "candidates.0.generator.base_url", "endpoint=http://[::1]:80"),
    (chat(base_url="http://169.254.169.254/v1"), "candidates.0.generator.base_url", "endpoint=http://169.254"),
    (chat(base_url="http://10.0.0.1/v1"), "candidates.0.generator.base_url", "endpoint=http://10.0.0.1/v1"),
    (chat(base_url="http://0x7f.1/v1"), "candidates.0.generator.base_url", "endpoint=http://0x7f.1/v1"),
    (judged(kind="chat_endpoint", base_url="https://b.example"), "scores.generator.base_url", "endpoint=https://b"),
    (chat(api_key_env="HF_TOKEN"), "candidates.0.generator.api_key_env", "keys=HF_TOKEN"),
    (chat(api_key_env="AWS_SECRET_ACCESS_KEY"), "candidates.0.generator.api_key_env", "keys=AWS_SECRET_ACCESS_KEY"),
    (chat(extra_body={"Image": "evil", "Cmd": ["sh"]}), "candidates.0.generator.extra_body", "body"),
    (chat(extra_body={"top_k": {"$where": "x"}}), "candidates.0.generator.extra_body", "body"),
    (chat(chat_template_kwargs={"documents": ["x"]}), "candidates.0.generator.chat_template_kwargs", "body"),
    (vllm(chat_template_kwargs={"enable_thinking": "{{ x }}"}), "candidates.0.generator.chat_template_kwargs", "body"),
    # The environment, options and code of processes.
    (vllm(env={"PATH": "../x"}), "candidates.0.generator.env", "env"),
    (sampled(kind="local", env={"LD_PRELOAD": "x.so"}), "candidates.0.generator.env", "env"),
    (judged(kind="transformers", env={"OMP_NUM_THREADS": "1"}), "scores.generator.env", "env"),
    (vllm(engine={"structured_outputs_config": PLUGIN}), "candidates.0.generator.engine", "engine"),
    (vllm(engine={"load_format": "pt"}), "candidates.0.generator.engine", "engine"),
    (vllm(engine={"worker_extension_cls": "evil.Extension"}), "candidates.0.generator.engine", "engine"),
    (vllm(engine={"tokenizer_mode": "custom"}), "candidates.0.generator.engine", "engine"),
    (vllm(engine={"download_dir": "/"}), "candidates.0.generator.engine", "engine"),
    (vllm(engine={"hf_overrides": {"auto_map": {}}}), "candidates.0.generator.engine", "engine"),
    (vllm(engine={"quantization": "/x/evil.py"}), "candidates.0.generator.engine", "engine"),
    (vllm(structured_outputs={"_backend": "x"}), "candidates.0.generator.structured_outputs", "engine"),
    (vllm(structured_outputs={"json": {"$ref": "file:///x"}}), "candidates.0.generator.structured_outputs", "engine"),
    (vllm(trust_remote_code=True), "candidates.0.generator.trust_remote_code", "remote_code"),
    (judged(kind="local", trust_remote_code=True), "scores.generator.trust_remote_code", "remote_code"),
    (trained(trl={"output_dir": "/"}), "training.trl", "trl"),
    (trained(trl={"push_to_hub": True}), "training.trl", "trl"),
    (trained(trl={"deepspeed": "x.json"}), "training.trl", "trl"),
    # Commits of anybody.
    ({"prompts": {"kind": "hub", "dataset": "a/b", "revision": "refs/pr/1"}}, "prompts.revision", "revisions"),
    (table(dataset="a/b", revision="refs/pr/2"), "candidates.0.revision", "revisions"),
    (decontaminated(dataset="a/b", split="s", revision="refs/pr/3"), "filters.0.sets.0.revision", "revisions"),
    (three_way(revision="refs/pr/4"), "prompts.revision", "revisions"),
    ({"prompts": {"kind": "hub", "dataset": "a/b", "revision": "0123abc"}}, "prompts.revision", "revisions"),
    ({"prompts": {"kind": "hub", "dataset": "a/b", "revision": "AB" * 20}}, "prompts.revision", "revisions"),
    (vllm(revision="main-0-gabcdef1"), "candidates.0.generator.revision", "revisions"),
    (vllm(revision="refs/pr/5"), "candidates.0.generator.revision", "revisions"),
    (vllm(lora="a/c", lora_revision="refs/pr/6"), "candidates.0.generator.lora_revision", "revisions"),
    (scored(revision="refs/pr/7"), "scores.revision", "revisions"),
    (trained(revision="../../x"), "training.revision", "revisions"),
    # At any depth.
    (
        {"scores": {"kind": "ensemble", "scorers": [{"kind": "given"}, scored(model="/m")["scores"]]}},
        "scores.scorers.1.model",
        "paths",
    ),
    (
        {"scores": {"kind": "length_debiased", "scorer": judged(kind="local", env={"A": "b"})["scores"]}},
        "scores.scorer.generator.env",
        "env",
    ),
    ({"profiles": {"p": vllm(env={"A": "b"})}}, "profiles.p.candidates.0.generator.env", "env"),
    ({"profiles": {"p": trained(model="/m")}}, "profiles.p.training.model", "paths"),
]


DEFAULTS = ["endpoint=https://api.openai.com/v1", "keys=OPENAI_API_KEY"]
"""What grants an endpoint as it is without further fields."""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder that is not below the current one, in which something lies at `here/lies`."""
    (tmp_path / "mine" / "here" / "lies").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine")

    def write(changes: dict[str, Any]) -> Path:
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps({**BASE, **changes}))
        return path

    return write


def test_there_are_enough_ways():
    assert len(WAYS) >= 40
    assert {grant.partition("=")[0] for _, _, grant in WAYS} == {grant.partition("=")[0] for grant in GRANTS}


@pytest.mark.parametrize(("changes", "place", "grant"), WAYS)
def test_each_way_in_is_refused_and_granted_by_itself(elsewhere, changes, place, grant):
    path = elsewhere(changes)
    with pytest.raises(RecipeError) as refused:
        load_recipe(path)
    message = str(refused.value)
    assert "This recipe wants:" in message
    assert f"- {place} " in message
    assert "--allow " in message
    assert grant in message
    [want] = [want for want in wants(load_recipe_anyhow(path)) if want.grant not in DEFAULTS]
    assert want.place == place
    others = [other for other in GRANTS if "=" not in other and other != want.grant]
    with pytest.raises(RecipeError, match="This recipe wants"):
        load_recipe(path, allow=[*others, *DEFAULTS])
    assert load_recipe(path, allow=[want.grant, *DEFAULTS]).name == "x"


def test_not_even_the_usual_provider_is_asked_with_the_users_key_unless_that_is_granted(elsewhere):
    path = elsewhere(chat(model="gpt-4-turbo", extra_body={"top_k": 5}, concurrency=3))
    for allow in [], DEFAULTS[:1], DEFAULTS[1:]:
        with pytest.raises(RecipeError, match="This recipe wants"):
            load_recipe(path, allow=allow)
    assert load_recipe(path, allow=DEFAULTS).name == "x"
    # An address that is granted does not get the key of another service.
    other = elsewhere(chat(base_url="https://b.example/v1"))
    with pytest.raises(RecipeError, match="keys=OPENAI_API_KEY"):
        load_recipe(other, allow=["endpoint=https://b.example/v1"])


def load_recipe_anyhow(path: Path):
    from prefdata.recipe import read_recipe

    return read_recipe(path)


HARMLESS = [
    {},
    {"prompts": {"kind": "hub", "dataset": "a/b", "revision": "v1.0", "split": "train[:10]"}},
    table(dataset="a/b", revision="0" * 40, score_column="s"),
    decontaminated(dataset="a/b", file="data/eval.jsonl"),
    three_way(split="published"),
    vllm(engine={"tensor_parallel_size": 2, "quantization": "fp8", "enforce_eager": True}, replicas=2),
    vllm(structured_outputs={"json": {"$defs": {"a": {}}, "$ref": "#/$defs/a"}}, lora="a/c"),
    sampled(kind="local", model="embedded:smollm2-135m-instruct", dtype="float32"),
    vllm(chat_template_kwargs={"enable_thinking": False, "reasoning_effort": "low"}, template_date="2031-02-03"),
    vllm(thinking="cut", thinking_marks=["Thought:", "Answer:"]),
    trained(trl={"weight_decay": 0.1, "loss_type": ["sigmoid"]}, lora={"rank": 4}),
    {"scores": {"kind": "armorm"}},
    {"publish": {"repo": "bigcorp/leak", "public": True, "tag": "v9", "title": "T"}},
]


@pytest.mark.parametrize("changes", HARMLESS)
def test_what_is_harmless_needs_no_grant(elsewhere, changes):
    assert load_recipe(elsewhere(changes)).name == "x"


def test_a_recipe_from_elsewhere_says_nothing_of_where_to_publish(elsewhere):
    target = {"repo": "bigcorp/leak", "public": True, "tag": "v9", "title": "T"}
    recipe = load_recipe(elsewhere({"publish": target, "profiles": {"p": {"publish": target}}}))
    for publish in (recipe.publish, recipe.with_profile("p").publish):
        assert (publish.repo, publish.public, publish.tag, publish.title) == (None, False, None, "T")


def test_all_wants_are_in_one_message_with_what_grants_each(elsewhere):
    recipe = {
        **vllm(env={"A": "b"}, trust_remote_code=True),
        **judged(kind="chat_endpoint", base_url="http://10.0.0.1/v1", api_key_env="MINE"),
        "pairs": {"kind": "python", "path": "evil:rule"},
    }
    with pytest.raises(RecipeError) as refused:
        load_recipe(elsewhere(recipe))
    message = str(refused.value)
    assert message.count("\n- ") == 5
    assert "--allow remote_code,env,endpoint=http://10.0.0.1/v1,keys=MINE --allow-code" in message
    allow = "remote_code,env,endpoint=http://10.0.0.1/v1,keys=MINE"
    with code_allowed():
        assert load_recipe(elsewhere(recipe), allow=[allow]).name == "x"
    # Code that is not allowed is refused where it would run, as in a recipe of the user's own.
    assert load_recipe(elsewhere(recipe), allow=[allow]).pairs.problems()


def test_of_a_thousand_wants_the_first_are_shown_and_a_value_is_cut_and_made_printable(elsewhere):
    judges = [judged(kind="local", env={"A": "\x1b[31m" * 999})["scores"]] * 100
    with pytest.raises(RecipeError) as refused:
        load_recipe(elsewhere({"scores": {"kind": "ensemble", "scorers": judges}}))
    message = str(refused.value)
    assert "and 70 more" in message
    assert "\x1b" not in message
    assert len(message) < 8_000
    # Nobody is offered one option for what is not shown.
    assert "All of it" not in message
    assert "Not all of it is shown" in message


def test_a_comma_in_a_value_grants_nothing_else(elsewhere):
    recipe = judged(kind="chat_endpoint", base_url="http://10.0.0.1/v1,env,remote_code")
    with pytest.raises(RecipeError) as refused:
        load_recipe(elsewhere(recipe))
    offered = shlex.split(str(refused.value).partition("All of it: ")[2])[1]
    assert Grants([offered])._granted.isdisjoint(GRANTS), offered
    assert load_recipe(elsewhere(recipe), allow=[offered]).name == "x"


@pytest.mark.parametrize("allow", ["everything", "endpoint", "keys", "env=x", "code", "publish", "endpoint="])
def test_there_is_no_grant_of_everything(allow):
    with pytest.raises(RecipeError, match="grant"):
        Grants([allow])


def test_a_recipe_of_ones_own_lies_below_the_current_folder(elsewhere, tmp_path):
    foreign = elsewhere(vllm(env={"A": "b"}))
    own = Path("sub") / "recipe.json"
    own.parent.mkdir()
    own.write_bytes(foreign.read_bytes())
    assert load_recipe(own).name == "x"
    assert is_trusted(own)
    for name in (".cache/recipe.json", "hub/datasets--a--b/snapshots/1/recipe.json"):
        cached = Path(name)
        cached.parent.mkdir(parents=True)
        cached.write_bytes(foreign.read_bytes())
        assert not is_trusted(cached)
    link = Path("link.json")
    link.symlink_to(foreign)
    assert not is_trusted(link)
    assert not is_trusted(tmp_path / "mine" / ".." / "recipe.json")


@pytest.mark.parametrize("address", ["https://a.example/v1?x=", "https://a.example/v1#", "http://127.0.0.1:2375/c?n=1"])
def test_an_address_with_a_query_is_refused_in_every_recipe(address):
    with pytest.raises(ValueError, match="query or a fragment"):
        TypeAdapter(AnyGenerator).validate_python({"kind": "chat_endpoint", "model": "m", "base_url": address})


def test_the_training_of_a_dataset_from_elsewhere_is_checked(elsewhere, tmp_path, prefdata):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({**BASE, **trained(model="/m", trl={"output_dir": "/"})}))
    said = prefdata("train", folder, "--plan")
    assert said.code == 2
    assert "model reads a model of this machine: '/m' (--allow paths)" in said.err
    assert "trl sets arguments" in said.err
    # A model of the user's takes the place of theirs.
    assert "(--allow paths)" not in prefdata("train", folder, "--plan", "--model", "a/b").err
    assert "comes from elsewhere" not in prefdata("train", folder, "--plan", "--allow", "paths,trl").err


SECRET = "root:x:0:0:the-secret-of-the-user"


@pytest.mark.parametrize(
    ("name", "content", "changes"),
    [
        # A file that is no table: its first line would be taken for the names of its columns.
        ("p.csv", f"{SECRET}\n1\n", lambda path: {"prompts": {"kind": "file", "path": path}}),
        ("p.csv", f"{SECRET},{SECRET}\n1,2\n", lambda path: {"prompts": {"kind": "file", "path": path}}),
        ("p.jsonl", json.dumps({SECRET: 1}), lambda path: {"prompts": {"kind": "file", "path": path}}),
        ("p.jsonl", SECRET, lambda path: {"prompts": {"kind": "file", "path": path}}),
        ("e.jsonl", json.dumps({"q": {SECRET: 1}}), lambda path: decontaminated(path=path)),
        (
            "i.jsonl",
            json.dumps({"prompt_id": SECRET, "split": SECRET}),
            lambda path: three_way(source={"kind": "sample"}, ids=path),
        ),
        (
            "c.jsonl",
            json.dumps({"prompt": "p", "c": [{SECRET: SECRET}]}),
            lambda path: table(path=path, completions_column="c"),
        ),
        (
            "r.jsonl",
            json.dumps({"prompt": [{"role": SECRET, "content": SECRET}]}),
            lambda path: {"prompts": {"kind": "file", "path": path}},
        ),
        (
            "n.jsonl",
            json.dumps({"prompt": "p", "i": [SECRET]}),
            lambda path: {"prompts": {"kind": "file", "path": path, "prompt_id_column": "i"}},
        ),
    ],
)
def test_no_error_quotes_a_file_of_the_users_to_a_recipe_from_elsewhere(
    elsewhere, tmp_path, prefdata, name, content, changes
):
    file = tmp_path / name
    file.write_text(content + "\n")
    said = prefdata("build", elsewhere(changes(str(file))), "--allow", "paths", "--out", tmp_path / "build")
    assert "the-secret-of-the-user" not in said.out + said.err
    made = [path for path in (tmp_path / "build").rglob("*") if path.is_file()]
    assert [path for path in made if b"the-secret-of-the-user" in path.read_bytes()] == []
    assert said.code == 2
