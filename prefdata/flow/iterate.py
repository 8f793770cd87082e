"""`run`: the iterations of a recipe, each sampled with the model that the one before has trained.

::

    RUN/
      run.json                      which iterations are finished, and the proof that their prompts are disjoint
      iteration-1/                  the build folder of the first iteration, its dataset in `dataset/`
      models/NAME-iteration-1/      the model that was trained on it
      iteration-2/ ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefdata import hub
from prefdata.errors import ConservationError, InputError, RecipeError, StoreError
from prefdata.flow.build import Build, build
from prefdata.flow.disk import alone
from prefdata.flow.documents import read_document, write_document
from prefdata.flow.engines.local import Engine
from prefdata.flow.from_hub import given_recipe
from prefdata.flow.graph import graph_of
from prefdata.flow.lock import read_lock
from prefdata.flow.progress import say
from prefdata.flow.push import RUN_FILE, push_one
from prefdata.flow.reader import BuildReader, BuildRecord
from prefdata.flow.run import prompt_job
from prefdata.flow.store import SHARD_SIZE, BuildFolder
from prefdata.flow.train import train, with_profile
from prefdata.publish import pushing
from prefdata.publish.manifest import MANIFEST
from prefdata.recipe import Recipe, folder_of
from prefdata.recipe.iterations import iteration_repo
from prefdata.recipe.trust import is_foreign
from prefdata.records import prompt_id_of
from prefdata.spec import JSON, fingerprint, sha256_of_file
from prefdata.spec.code import allowing_code
from prefdata.spec.quoting import for_a_stranger
from prefdata.training.reference import hash_weights

__all__ = ["Iterated", "iterated_recipe", "read_prompts", "run", "run_folder", "trained_model"]

_COMMITS = {"dataset": "commit", "model": "model_commit"}
"""What is published → the key of its commit's address in an entry of the ledger."""


@dataclass(frozen=True)
class Iterated:
    """A finished run."""

    folder: Path
    """The folder of the run."""
    models: tuple[Path, ...]
    """The folder of each iteration's model, in order."""
    builds: tuple[Build, ...]
    """The build of each iteration, in order."""
    ledger: dict[str, JSON]
    """`run.json`: the prompts of each iteration, and its pairs, steps and hashes."""


def run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    profile: str | None = None,
    limit: int | None = None,
    processes: int | None = None,
    push: bool | str = False,
    replace: bool = False,
    reuse: str | Path | bool = True,
    allow_code: bool = False,
    allow: Iterable[str] = (),
    cache: Path | None = None,
    log: Callable[[str], None] = say,
    engine: Engine | None = None,
) -> Iterated:
    """Carries out the iterations of a recipe, or goes on with a run that was stopped; the same call resumes.

    In each iteration the dataset is built, and a model trained on it, from which the next iteration samples; each is
    published as soon as it is there, if `push` says so. What is finished is not done again. Models are processes of
    their own, which end before the next stage begins: sampling, scoring and training use the same devices one after the
    other.

    Args:
        recipe: a recipe with `iterations`, its `.py` or `.json` file, or the name of a shipped recipe.
        out: the folder of the run; left out, `runs/<name of the recipe>`.
        profile: a profile of the recipe.
        limit: at most this many different prompts in each iteration.
        processes: of each training; left out, one a GPU, or one.
        push: publish each dataset and each model, those of finished iterations too, as `NAME-iteration-K`: True takes
            the repository of the recipe's `publish`, a text is the repository, `owner/name`.
        replace: see `prefdata.build`.
        reuse: see `prefdata.build`; the folder `.cache` lies in the folder of the run.
        allow_code: run Python parts that a JSON recipe names.
        allow: what a recipe from elsewhere may do: see `prefdata.spec.trust.GRANTS`.
        cache: the folder of the reference log-probabilities.
        log: takes lines for the person who watches.
        engine: the machines of the builds: see `prefdata.build`. Trainings run on this one.

    Raises:
        RecipeError: the recipe has no iterations.
        InputError: two iterations share a prompt.
        StoreError: the folder holds the run of another recipe.
        UserError: something that the user can fix; what was finished so far is kept.
    """
    foreign = is_foreign(recipe)
    with allowing_code(allow_code, folder_of(recipe)), for_a_stranger(foreign):
        whole = iterated_recipe(recipe, profile, limit, allow)
        if isinstance(push, str):
            whole = whole.replace(publish=whole.publish.replace(repo=push))
        if push:
            _check_target(whole)
        root = run_folder(whole, out, foreign=foreign)
        with alone(root):
            options = {"replace": replace, "reuse": reuse, "check": bool(push), "engine": engine}
            return _Run(whole, root, options, processes=processes, push=bool(push), cache=cache, log=log).carry_out()


def _check_target(recipe: Recipe) -> None:
    """Finds out before the first answer what would stop the first push.

    Raises:
        UserError: the recipe names no repository or no possible one, or there is no token.
    """
    assert recipe.iterations is not None
    if recipe.publish.repo is None:
        raise RecipeError(
            f"recipe {recipe.name!r} doesn't say where to publish",
            valid='publish=Publish(repo="owner/name") in the recipe, or a repository: --push OWNER/NAME',
        )
    pushing.check_target(iteration_repo(recipe.publish.repo, recipe.iterations.count))


def iterated_recipe(
    recipe: Recipe | str | Path, profile: str | None, limit: int | None, allow: Iterable[str] = ()
) -> Recipe:
    """Loads a recipe with iterations, and applies its profile and limit.

    Args:
        recipe: see `run`.
        profile: see `run`. `cpu` without a training of its own makes the recipe's small.
        limit: see `run`.
        allow: see `run`.

    Raises:
        RecipeError: the recipe has no iterations.
    """
    whole = with_profile(given_recipe(recipe, allow), profile).with_limit(limit)
    if whole.iterations is None or whole.training is None:
        raise RecipeError(
            f"recipe {whole.name!r} has no iterations",
            valid="iterations=Iterations(count=3), beside a training",
            hint="for one round: prefdata build, then prefdata train",
        )
    return whole


def run_folder(recipe: Recipe, out: str | Path | None, *, foreign: bool = False) -> Path:
    """Gives the folder of a run.

    Args:
        recipe: with its profile applied.
        out: the folder; None takes `runs/<name of the recipe>`.
        foreign: the recipe is somebody else's, whose name for it must not choose a run of the user's: None takes
            `runs/from-elsewhere/<name>`.
    """
    parent = Path("runs", "from-elsewhere") if foreign else Path("runs")
    # Recipes name the models of the run by their paths: one folder has one spelling.
    root = (Path(out).expanduser() if out is not None else parent / recipe.name).resolve()
    return root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root


def read_prompts(recipe: Recipe, folder: Path) -> set[str]:
    """Reads the prompts of one iteration; no model is started.

    Args:
        recipe: of the iteration.
        folder: its build folder, whose lock keeps the commits that are pinned already.

    Returns:
        The id that follows from the content of each conversation, whatever id its source gives it.
    """
    commits = (read_lock(BuildFolder(folder)) or {}).get("commits", {})
    with hub.locked_commits(commits):
        graph = graph_of(recipe).pinned(
            recipe.seed, lambda stage: stage.part.pins() if stage.kind in ("filter", "prompts") else {}
        )
    job = prompt_job(BuildReader(folder, BuildRecord(recipe, graph, SHARD_SIZE)))
    return {prompt_id_of(prompt.messages) for prompt in job.read(job.context()).prompts}


def trained_model(recipe: Recipe, root: Path, number: int) -> str | None:
    """Gives the model that an iteration has trained; None where it is not there.

    Args:
        recipe: the recipe with its iterations.
        root: the folder of the run.
        number: of the iteration; there is none before the first.
    """
    folder = _model_folder(recipe, root, number)
    return str(folder) if (folder / "training.json").is_file() else None


def _model_folder(recipe: Recipe, root: Path, number: int) -> Path:
    return root / "models" / f"{recipe.name}-iteration-{number}"


class _Run:
    """One run; see `run` for its arguments."""

    def __init__(
        self,
        recipe: Recipe,
        root: Path,
        options: dict[str, Any],
        *,
        processes: int | None,
        push: bool,
        cache: Path | None,
        log: Callable[[str], None],
    ) -> None:
        assert recipe.iterations is not None
        self._recipe, self._root, self._count = recipe, root, recipe.iterations.count
        self._options, self._processes, self._push, self._cache, self._log = options, processes, push, cache, log
        self._state = read_document(root / RUN_FILE, "which iterations are finished: their folders are looked at anew")

    def carry_out(self) -> Iterated:
        """Carries out what is not finished."""
        done: list[dict[str, JSON]] = list((self._state or {}).get("iterations", []))
        self._check_same(done)
        proof = self._prove_disjoint()
        self._write(proof, done)
        numbers = range(1, self._count + 1)
        for number in numbers:
            if number > len(done):
                done.append(self._iteration(number, proof, done))
                self._write(proof, done)
            self._publish("dataset", done[number - 1])
            self._publish("model", done[number - 1])
            self._write(proof, done)
        builds = tuple(Build(self._build_folder(number)) for number in numbers)
        return Iterated(self._root, tuple(map(self._model, numbers)), builds, self._ledger(proof, done))

    def _model(self, number: int) -> Path:
        return _model_folder(self._recipe, self._root, number)

    def _build_folder(self, number: int) -> Path:
        return self._root / f"iteration-{number}"

    def _recipe_of(self, number: int) -> Recipe:
        return self._recipe.iteration(number, None if number == 1 else str(self._model(number - 1)))

    def _check_same(self, done: list[dict[str, JSON]]) -> None:
        """Checks that finished iterations are those of this recipe, and that what they made is there.

        Raises:
            StoreError: they are not.
        """
        for number, entry in enumerate(done, 1):
            if number > self._count or entry["recipe"] != self._recipe_of(number).fingerprint():
                raise StoreError(
                    f"{str(self._root)!r} holds the run of another recipe: iteration {number} is finished and differs",
                    hint="choose another folder with --out",
                )
            for path in (self._build_folder(number) / "dataset" / MANIFEST, self._model(number) / "training.json"):
                if not path.is_file():
                    raise StoreError(
                        f"iteration {number} is finished, but {str(path)!r} is not there",
                        hint="put it back, or choose another folder with --out",
                    )

    def _prove_disjoint(self) -> dict[str, JSON]:
        """Reads the prompts of every iteration, and checks that no two share one.

        Raises:
            InputError: two do.
        """
        owner: dict[str, int] = {}
        shared: Counter[tuple[int, int]] = Counter()
        proof: dict[str, JSON] = {}
        for number in range(1, self._count + 1):
            # What the prompts are does not depend on the policy, which need not exist yet.
            ids = read_prompts(self._recipe.iteration(number), self._build_folder(number))
            for prompt_id in ids:
                if (first := owner.setdefault(prompt_id, number)) != number:
                    shared[first, number] += 1
            proof[str(number)] = {"prompts": len(ids), "sha256": fingerprint(sorted(ids))}
        if shared:
            (one, other), count = shared.most_common(1)[0]
            raise InputError(
                f"the iterations {one} and {other} share {count:,} prompts",
                valid="prompts that belong to one iteration only",
                hint="leave `iterations.prompts` out to cut one source into disjoint parts",
            )
        counts = ", ".join(f"{entry['prompts']:,}" for entry in proof.values())
        self._log(f"prompts: {counts}; no two iterations share one")
        return proof

    def _iteration(self, number: int, proof: dict[str, JSON], done: list[dict[str, JSON]]) -> dict[str, JSON]:
        recipe = self._recipe_of(number)
        self._log(f"iteration {number} of {self._count}: {recipe.name}")
        built = build(recipe, self._build_folder(number), **self._options)
        if fingerprint(sorted(self._built_prompts(built.folder))) != proof[str(number)]["sha256"]:
            raise InputError(
                f"the prompts of iteration {number} have changed since the run began",
                hint="run the same command again: they are compared with the other iterations anew",
            )
        entry: dict[str, JSON] = {"iteration": number, "recipe": recipe.fingerprint(), "pairs": built.ledger["pairs"]}
        self._publish("dataset", entry)
        trained = train(
            recipe,
            built.folder,
            out=self._model(number),
            processes=self._processes,
            cache=self._cache,
            log=self._log,
        )
        entry["steps"] = trained.facts["result"]["steps"]
        entry["dataset_sha256"] = sha256_of_file(built.dataset / MANIFEST)
        entry["weights_sha256"] = fingerprint(hash_weights(trained.folder))
        if done and done[-1]["weights_sha256"] == entry["weights_sha256"]:
            raise ConservationError(f"iteration {number} has left the weights of the model as they were")
        return entry

    def _publish(self, what: Literal["dataset", "model"], entry: dict[str, JSON]) -> None:
        """Publishes the dataset or the model of an iteration, where that is asked for and not done yet."""
        publish, number, key = self._recipe.publish, entry["iteration"], _COMMITS[what]
        repo = publish.repo or ""
        if not self._push or f"/{iteration_repo(repo, number)}/commit/" in entry.get(key, ""):
            return
        send = partial(pushing.push, public=publish.public, tag=publish.tag, log=self._log)
        entry[key] = push_one(what, self._root, self._model(number), repo, number, send).url

    def _built_prompts(self, folder: Path) -> Iterable[str]:
        reader = BuildReader(folder)
        for shard in reader.shards:
            for messages in reader.prompts(shard)["messages"].to_pylist():
                yield prompt_id_of(messages)

    def _ledger(self, proof: dict[str, JSON], done: list[dict[str, JSON]]) -> dict[str, JSON]:
        return {"prompts": proof, "iterations": done}

    def _write(self, proof: dict[str, JSON], done: list[dict[str, JSON]]) -> None:
        write_document(self._root / RUN_FILE, self._ledger(proof, done))
