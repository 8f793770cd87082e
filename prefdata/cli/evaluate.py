"""`prefdata evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from prefdata.cli.options import display, print_json, settings_given

if TYPE_CHECKING:
    from prefdata.evaluation.record import Evaluation

__all__ = ["command"]

_BACKENDS = ("local", "vllm", "transformers")


@click.command("evaluate")
@click.argument("model", metavar="MODEL")
@click.option(
    "--suite", default="alpaca_eval", metavar="SUITE", help="alpaca_eval, open_llm_v1, held_out or FILE.yaml."
)
@click.option("--out", metavar="DIR", help="The folder of the results; left out, the model's, or evaluations/NAME.")
@click.option("--backend", type=click.Choice(_BACKENDS), help="The engine that runs the model on this machine.")
@click.option("--endpoint", metavar="URL", help="An OpenAI-compatible endpoint that serves MODEL.")
@click.option("--key-env", default="OPENAI_API_KEY", metavar="NAME", help="The variable that holds the endpoint's key.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N rows only, or of each task.")
@click.option("--baseline", metavar="FILE|REPO[:FILE]", help="Instructions, with a baseline's outputs to them.")
@click.option("--preset", default="wpo_hybrid_v2", metavar="NAME", help="Published generation settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting: max_tokens=2048.")
@click.option(
    "--judge",
    multiple=True,
    metavar="KIND=VALUE",
    help="alpaca_eval=URL, annotations=FILE, annotator=NAME, reward_model=MODEL, endpoint=MODEL@URL.",
)
@click.option("--judge-key-env", default="OPENAI_API_KEY", metavar="NAME", help="The variable of the judges' key.")
@click.option("--df-gamed", metavar="FILE", help="df_gamed.csv, which length control needs.")
@click.option("--allow-other-df-gamed", is_flag=True, help="Take another df_gamed.csv than the published one.")
@click.option("--no-length-control", is_flag=True, help="Leave the length-controlled win rate out.")
@click.option("--dataset", multiple=True, metavar="FOLDER|FILE|REPO", help="held_out: pairs; may be repeated.")
@click.option("--split", metavar="NAME", help="held_out: the split; left out, the one that is named test...")
@click.option("--reference", metavar="M", help="held_out: the reference; left out, what training started from.")
@click.option("--allow-code", is_flag=True, help="Run task files that are Python code; refused otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")
def command(model: str, suite: str, settings: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Evaluate MODEL, a folder or a model of the Hub, by one suite.

    Results go into evaluation.json and onto the model's card. Goes on where it stopped: the same command again resumes.
    """
    from prefdata.evaluation.evaluate import evaluate
    from prefdata.flow.progress import say

    done = evaluate(model, suite, settings=settings_given(settings), log=say, **options)
    if as_json:
        print_json({"folder": str(done.folder), "suite": done.suite, **done.results})
    else:
        display("\n".join(_lines(done)))


def _lines(done: Evaluation) -> list[str]:
    from prefdata.evaluation.compare import lines_of

    return [*lines_of(done.results), f"Results: {done.folder / 'evaluation.json'}"]
