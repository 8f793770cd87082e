"""`train`: from a recipe, or a dataset that carries one, to a trained model with its card."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prefdata import hub
from prefdata.errors import InputError, RecipeError, closest
from prefdata.flow.disk import refuse_address
from prefdata.flow.from_hub import check_named_commits, given_recipe
from prefdata.flow.store import build_folder
from prefdata.publish.card.curves import curves_svg
from prefdata.publish.card.evaluation import with_evaluation
from prefdata.publish.card.model import model_card
from prefdata.publish.manifest import MANIFEST, manifest_entry, write_model_manifest
from prefdata.recipe import Profile, Recipe, shipped_recipes
from prefdata.recipe.mistakes import explained
from prefdata.recipe.profiles import EMBEDDED_MODEL
from prefdata.recipe.trust import check_wants, is_foreign, is_trusted
from prefdata.spec import JSON, fingerprint, sha256_of_file
from prefdata.spec.code import allowing_code, file_of
from prefdata.tables.documents import read_object
from prefdata.training import Training
from prefdata.training.launch import TrainedModel, launch
from prefdata.training.plan import TrainingPlan
from prefdata.training.preflight import MEANINGS
from prefdata.training.prepare import Prepared, prepare

__all__ = ["name_repositories", "plan_training", "train", "with_profile"]


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_FILES = ("recipe.json", "prefdata.lock.json", "prefdata.manifest.json", "data/*.parquet")


@dataclass(frozen=True)
class _Source:
    """Where training and dataset come from."""

    name: str
    training: Training | None
    dataset: Path
    recipe: Mapping[str, JSON] | None
    lineage: Mapping[str, JSON]
    foreign: bool = False
    """Whether the training is of a dataset from elsewhere, and its recipe not checked yet."""


def train(
    what: Recipe | str | Path,
    dataset: str | Path | None = None,
    *,
    model: str | None = None,
    out: str | Path | None = None,
    profile: str | None = None,
    limit: int | None = None,
    processes: int | None = None,
    nodes: int = 1,
    split: str | None = None,
    settings: Mapping[str, JSON] | None = None,
    allow_code: bool = False,
    allow: Iterable[str] = (),
    cache: Path | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> TrainedModel:
    """Trains a model, or goes on with a training that was stopped; the same call resumes.

    Args:
        what: a recipe, a recipe's file or name, a build or dataset folder, or `OWNER/NAME[@REVISION]` of the Hub.
        dataset: a build or dataset folder in place of the recipe's own build.
        model: the model that training starts from, in place of the recipe's.
        out: the folder of the model; without it, `models/NAME`.
        profile: a profile of the recipe.
        limit: train on this many rows at most, the first ones.
        processes: number of processes; without it, one a GPU, or one.
        nodes: number of machines.
        split: the split to train on, where there are several.
        settings: fields of the training, by name.
        allow_code: run an objective that is Python code.
        allow: what a recipe or dataset from elsewhere may do: see `prefdata.spec.trust.GRANTS`.
        cache: the folder of the reference log-probabilities.
        log: takes lines for the person who watches.

    Raises:
        UserError: something can't work, said before a model is loaded; or the training process failed.
    """
    with allowing_code(allow_code):
        prepared, source = _prepared(
            *(what, dataset, model, out, profile, settings, allow),
            limit=limit,
            processes=processes,
            nodes=nodes,
            split=split,
            cache=cache,
            log=log,
        )
        lineage = {**source.lineage, **_ancestry(prepared.training.model)}
        trained = launch(prepared, lineage=lineage, log=log)
        _write_card(trained, source)
    return trained


def plan_training(what: Recipe | str | Path, dataset: str | Path | None = None, **options: Any) -> TrainingPlan:
    """Plans a training: rows, tokens, steps, memory and command. Tokenises, and loads no model.

    Args:
        what: as for `train`.
        dataset: as for `train`.
        options: `model` in place of the recipe's; `out`, the folder of the model, else `models/NAME`; `profile`;
            `limit` of rows; `processes`; `nodes`; `split` of the dataset; `settings`, fields of the training by name;
            `allow`, what a recipe from elsewhere may do; `cache` of reference log-probabilities; `log`, which takes
            lines for the person who watches.

    Raises:
        UserError: something can't work.
    """
    return _prepared(what, dataset, **options)[0].plan


def _prepared(
    what: Recipe | str | Path,
    dataset: str | Path | None = None,
    model: str | None = None,
    out: str | Path | None = None,
    profile: str | None = None,
    settings: Mapping[str, JSON] | None = None,
    allow: Iterable[str] = (),
    **options: Any,
) -> tuple[Prepared, _Source]:
    """Finds training and dataset, and prepares them; further options are those of `prepare`."""
    source = _source(what, dataset, profile, allow)
    if source.foreign and source.training is not None:
        # The model that the user names takes the place of the dataset's own.
        judged = source.training if model is None else source.training.replace(model=EMBEDDED_MODEL, revision=None)
        check_wants(judged, f"the dataset {source.name!r}", allow)
        check_named_commits(judged)
    training = _changed(source, model, settings or {})
    folder = Path(out) if out is not None else Path("models") / source.name
    refuse_address(folder)
    return prepare(training, source.dataset, folder, **options), source


def _source(
    what: Recipe | str | Path, dataset: str | Path | None, profile: str | None, allow: Iterable[str]
) -> _Source:
    if isinstance(what, Recipe) or _is_recipe(str(what)):
        recipe = with_profile(given_recipe(what, allow), profile)
        root = build_folder(recipe.name, dataset, foreign=is_foreign(what)).root
        if hub.is_remote(dataset):
            root = hub.find_dataset(dataset, only=_FILES).path
        if not root.is_dir():
            raise InputError(
                f"the dataset of recipe {recipe.name!r} is not in {str(root)!r}",
                hint=f"prefdata build {'RECIPE' if isinstance(what, Recipe) else what}"
                + (f" --profile {profile}" if profile else ""),
            )
        folder = _inside(root)
        return _Source(recipe.name, recipe.training, folder, recipe.dump(), _lineage(folder, _recipe_of(folder)))
    root, repo = _folder(what)
    folder = _inside(root)
    dumped = _recipe_of(folder)
    training = _training(dumped["training"]) if dumped and dumped.get("training") else None
    if profile == "cpu" and training is not None:
        training = training.on_a_laptop(EMBEDDED_MODEL)
    elif profile not in (None, "full", "cpu"):
        raise RecipeError(f"a dataset has no profile {profile!r}", valid="cpu, full", hint="name the recipe instead")
    given = (dumped or {}).get("name")
    # The model's folder is called so: a stranger's recipe must not lead out of `models`.
    name = given if isinstance(given, str) and _NAME.fullmatch(given) else folder.resolve().name
    foreign = bool(repo) or not is_trusted(folder)
    return _Source(name, training, folder, dumped, {**_lineage(folder, dumped), **repo}, foreign)


def with_profile(recipe: Recipe, profile: str | None) -> Recipe:
    """Applies a profile; `cpu` makes a training small that it does not replace.

    Raises:
        RecipeError: the recipe has no such profile.
    """
    own = recipe.profiles[profile].training if profile and profile in recipe.profiles else None
    recipe = recipe.with_profile(profile)
    if profile != "cpu" or own is not None or recipe.training is None:
        return recipe
    return recipe.replace(training=recipe.training.on_a_laptop(EMBEDDED_MODEL))


def _is_recipe(what: str) -> bool:
    path = Path(what)
    return not path.is_dir() and (path.suffix in (".py", ".json") or what in shipped_recipes())


def _folder(what: str | Path) -> tuple[Path, dict[str, JSON]]:
    """The folder of a build or dataset, and the repository and commit of one that was downloaded."""
    repo = hub.repo_and_revision(str(what))
    if repo is None and not hub.is_remote(what) and not Path(what).expanduser().is_dir():
        raise InputError(
            f"there is no recipe, build or dataset {str(what)!r}",
            valid="a recipe (.py, .json or a shipped name), a folder, or OWNER/NAME[@REVISION]",
            hint=f"shipped recipes: {closest(str(what), shipped_recipes())}",
        )
    dataset = hub.find_dataset(what, only=_FILES)
    return dataset.path, {"repo": repo[0], "revision": dataset.commit} if repo and dataset.commit else {}


def _inside(folder: Path) -> Path:
    """The dataset of a build, or the folder itself."""
    return folder / "dataset" if (folder / "dataset").is_dir() and not (folder / "data").is_dir() else folder


def _recipe_of(folder: Path) -> Mapping[str, JSON] | None:
    path = folder / "recipe.json"
    return read_object(path, folder) if os.path.lexists(path) else None


def _lineage(folder: Path, recipe: Mapping[str, JSON] | None) -> dict[str, JSON]:
    files = {"lock_sha256": "prefdata.lock.json", "manifest_sha256": "prefdata.manifest.json"}
    return {
        "name": None if recipe is None else recipe.get("name"),
        "recipe_fingerprint": None if recipe is None else fingerprint(recipe),
        **{key: sha256_of_file(folder / file) for key, file in files.items() if (folder / file).is_file()},
    }


def _ancestry(model: str) -> dict[str, JSON]:
    """What a model that prefdata has trained was itself trained from; nothing for any other."""
    facts = Path(model).expanduser() / "training.json"
    if not facts.is_file():
        return {}
    before = read_object(facts, facts.parent)
    lineage, pins = before["lineage"], before["model"]["model_pins"]
    # Only a model of the Hub, which has a commit, means something to others.
    first = before["training"]["model"] if pins.get("sha") else lineage.get("base_model")
    return {"parent": facts.parent.resolve().name, "parent_dataset": lineage.get("name"), "base_model": first}


def _changed(source: _Source, model: str | None, settings: Mapping[str, JSON]) -> Training:
    """The training with another model and other fields."""
    kind = settings.get("kind")
    fields: dict[str, JSON] = {} if source.training is None else source.training.dump()
    if source.training is None and (kind is None or model is None):
        raise RecipeError(
            f"{source.name!r} says nothing of a training",
            valid="a recipe with `training`, or --set kind=KIND --model MODEL",
            hint="for instance: --set kind=dpo --model HuggingFaceTB/SmolLM2-135M-Instruct",
        )
    if kind is not None and kind != fields.get("kind"):
        fields = {"kind": kind, "model": model or fields.get("model")}
    if model is not None:
        fields = {name: value for name, value in fields.items() if name != "revision"} | {"model": model}
    own = source.training is not None and source.training.is_own()
    for path, value in settings.items():
        inner, names = fields, path.split(".")
        if own and names[0] not in Training.model_fields:
            names = ["options", *names]
        for name in names[:-1]:
            inner[name] = dict(inner.get(name) or {})
            inner = inner[name]
        inner[names[-1]] = value
    # The class was loaded with the recipe: its module may be run.
    with allowing_code(own, file_of(type(source.training)).parent if own else "."):
        return _training(fields)


def _training(dumped: JSON) -> Training:
    try:
        training = Profile.model_validate({"training": dumped}).training
    except ValidationError as error:
        problems = explained(error).replace("Profile.training", "training")
        raise RecipeError(
            f"this is not a training: {problems}", hint="docs/reference/training.md lists every field"
        ) from error
    assert training is not None
    return training


def _write_card(trained: TrainedModel, source: _Source) -> None:
    (trained.folder / "curves.svg").write_text(curves_svg(trained.metrics), encoding="utf-8")
    _save_card(trained, trained.facts, source.recipe, ["curves.svg"])


def name_repositories(folder: Path, dataset: Path, repositories: Mapping[str, JSON]) -> None:
    """Names on the card of a trained model where its dataset and the model before it are published.

    A card that somebody has changed stays: pushing it is refused as before.

    Args:
        folder: of the model.
        dataset: the dataset folder that it was trained on.
        repositories: `repo` of the dataset, and `parent_repo` of the model that training started from.
    """
    listed = read_object(folder / MANIFEST, folder).get("files") or {}
    if not (folder / "README.md").is_file() or listed.get("README.md") != manifest_entry(folder / "README.md"):
        return
    facts = read_object(folder / "training.json", folder)
    shown = {**facts, "lineage": {**facts["lineage"], **repositories}}
    _save_card(TrainedModel(folder, facts, []), shown, _recipe_of(dataset), [])


def _save_card(
    trained: TrainedModel, facts: dict[str, JSON], recipe: Mapping[str, JSON] | None, written: list[str]
) -> None:
    """Writes the card, and the manifest: anew what was just written, and everything where there is none."""
    name, evaluation = trained.folder.resolve().name, trained.folder / "evaluation.json"
    card = model_card(name, facts, recipe, {str(name): text for name, text in MEANINGS.items()})
    written = ["README.md", *written]
    if evaluation.is_file():
        written.append(evaluation.name)
        suites = read_object(evaluation, trained.folder).get("suites") or {}
        card = with_evaluation(card, name, suites) or card
    (trained.folder / "README.md").write_text(card, encoding="utf-8")
    write_model_manifest(trained.folder, [*trained.files, *written], written=written)
