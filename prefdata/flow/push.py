"""`push`: publishes what a folder holds; of a run, the dataset and the model of each finished iteration, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from prefdata import hub
from prefdata.errors import InputError, PublishError, UnconfirmedError
from prefdata.flow.disk import alone
from prefdata.flow.train import name_repositories
from prefdata.publish import pushing
from prefdata.publish.pushing import Pushed
from prefdata.recipe.iterations import iteration_repo
from prefdata.spec import JSON
from prefdata.tables.documents import read_object

__all__ = ["RUN_FILE", "push", "push_one"]

RUN_FILE = "run.json"
"""Names the finished iterations of a run, in its folder."""


def push(
    folder: str | Path,
    repo_id: str,
    *,
    public: bool = False,
    tag: str | None = None,
    branch: str = "main",
    create_pr: bool = False,
    allow_schema_change: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Publishes a dataset, a trained model, or a run; pushing the same one again makes no commit.

    Of a run, the dataset of each finished iteration is published as the dataset `REPO_ID-iteration-K`, and then its
    model as the model of that name, one commit each, in order. The card of each model names these repositories of its
    dataset and of the model before it.

    The Hub's client supplies the token (`hf auth login`, `HF_TOKEN`).

    Args:
        folder: a build folder, a dataset folder (also on an object store: `s3://bucket/folder`), the folder that a
            training has left, or the folder of a run.
        repo_id: `owner/name` of a dataset, or of a model; created where there is none.
        public: make the repository public; otherwise it is private, and a public one is refused.
        tag: a version that names the commit.
        branch: the branch that gets the commit; created from `main` where there is none.
        create_pr: propose the commit as a pull request.
        allow_schema_change: publish also where columns, types or splits differ from the published ones.
        log: receives progress, one line a call.

    Raises:
        PublishError: not published, and why: nothing has changed, but a new repository or branch may be empty.
        UnconfirmedError: published (the message has the address), or it is not known; and what could not be checked.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    send = partial(
        pushing.push,
        public=public,
        tag=tag,
        branch=branch,
        create_pr=create_pr,
        allow_schema_change=allow_schema_change,
        log=log,
    )
    if hub.is_remote(folder):
        folder = hub.find_dataset(folder, only=()).dataset
    root = Path(folder)
    if not (root / RUN_FILE).is_file():
        return send(folder, repo_id)
    with alone(root):
        return _push_run(root, repo_id, send, log)


def push_one(
    what: Literal["dataset", "model"],
    root: Path,
    model: Path,
    repo_id: str,
    number: int,
    send: Callable[[Path, str], Pushed],
) -> Pushed:
    """Publishes the dataset or the model of an iteration; the model's card names these and its parent's repositories.

    Args:
        what: which of the two.
        root: the folder of the run.
        model: the folder of the model.
        repo_id: `owner/name` of the run.
        number: of the iteration.
        send: `prefdata.publish.pushing.push` with its options.

    Raises:
        UserError: see `push`.
    """
    repo, dataset = iteration_repo(repo_id, number), root / f"iteration-{number}" / "dataset"
    if what == "dataset":
        return send(dataset, repo)
    parent = {"parent_repo": iteration_repo(repo_id, number - 1)} if number > 1 else {}
    name_repositories(model, dataset, {"repo": repo, **parent})
    return send(model, repo)


def _push_run(root: Path, repo_id: str, send: Callable[[Path, str], Pushed], log: Callable[[str], None]) -> Pushed:
    done: list[Pushed] = []
    whats: tuple[Literal["dataset", "model"], ...] = ("dataset", "model")
    for number, model in enumerate(list(_models(root)), 1):
        for what in whats:
            log(f"{what} of iteration {number}: {iteration_repo(repo_id, number)}")
            try:
                done.append(push_one(what, root, model, repo_id, number, send))
            except (PublishError, UnconfirmedError) as error:
                before = f"\n    of this run, {len(done)} datasets and models before it are published and checked"
                raise type(error)(f"{error.problem}{before}", valid=error.valid, hint=error.hint) from error
    return replace(done[-1], before=tuple(done[:-1]))


def _models(root: Path) -> Iterator[Path]:
    """Finds the folder of each finished iteration's model.

    Raises:
        PublishError: no iteration is finished, or the model of one is not there.
    """
    again = "run its `prefdata run` command again: it goes on where it stopped"
    finished = len(_finished(root))
    if not finished:
        raise PublishError(f"not published: no iteration of the run {str(root)!r} is finished", hint=again)
    for number in range(1, finished + 1):
        models = sorted((root / "models").glob(f"*-iteration-{number}"))
        if len(models) != 1:
            raise PublishError(
                f"not published: {str(root / 'models')!r} holds {len(models)} models of iteration {number}",
                valid="the one model that the run has trained",
                hint="put it back",
            )
        yield models[0]


def _finished(root: Path) -> list[JSON]:
    try:
        entries = read_object(root / RUN_FILE, root).get("iterations")
    except InputError as error:
        raise PublishError(f"not published: {error.problem}", valid=error.valid, hint=error.hint) from error
    return entries if isinstance(entries, list) else []
