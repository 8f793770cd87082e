"""`prefdata push`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from prefdata.cli.options import display, print_json
from prefdata.errors import printable

if TYPE_CHECKING:
    from prefdata.publish import Pushed

__all__ = ["command", "push_lines"]


@click.command("push")
@click.argument("folder")
@click.argument("repo_id")
@click.option("--public", is_flag=True, help="Let everybody read it; otherwise the repository is private.")
@click.option("--tag", metavar="NAME", help="A version that names the commit.")
@click.option("--branch", metavar="NAME", default="main", show_default=True, help="The branch that gets the commit.")
@click.option("--create-pr", is_flag=True, help="Propose the commit as a pull request.")
@click.option(
    "--allow-schema-change", is_flag=True, help="Publish also where columns, types or splits differ from what is there."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was published as one JSON object.")
def command(
    folder: str,
    repo_id: str,
    public: bool,
    tag: str | None,
    branch: str,
    create_pr: bool,
    allow_schema_change: bool,
    as_json: bool,
) -> None:
    """Publish FOLDER, a build, a dataset or a trained model, as the dataset or model REPO_ID (OWNER/NAME) of the Hub.

    What FOLDER holds decides. Of a run, each iteration's dataset and model are published in order, as
    REPO_ID-iteration-K. One commit that holds all of it, or none; the same again makes no commit. Prose that
    somebody wrote into the card stays. Afterwards the commit is read again and compared. Log in with `hf auth login`,
    or set HF_TOKEN.

    Exit codes: 0 published and checked; 2 not published, nothing has changed; 3 published but not checked, or unknown.
    The message says which, what was not checked, and what to run next.
    """
    from prefdata.flow.progress import say
    from prefdata.flow.push import push

    done = push(
        folder,
        repo_id,
        public=public,
        tag=tag,
        branch=branch,
        create_pr=create_pr,
        allow_schema_change=allow_schema_change,
        log=say,
    )
    if as_json:
        from dataclasses import asdict

        print_json(asdict(done))
    else:
        display("\n".join(line for one in (*done.before, done) for line in push_lines(one)))


def push_lines(done: Pushed) -> list[str]:
    """Formats what was published; the last line is the commit's address."""
    rows = ", ".join(f"{split} {count:,}" for split, count in done.rows.items())
    what = f"a model of {done.files:,} files" if done.kind == "model" else rows
    lines = [f"{'published' if done.new else 'already there'}: {what}"]
    lines += [f"kept on the card: {printable(key, 60)}: {printable(str(value))}" for key, value in done.kept.items()]
    lines += [f"tag: {done.tag}"] if done.tag else []
    lines += [f"pull request: {done.pull_request}"] if done.pull_request else []
    return [*lines, done.url]
