"""`evaluate`: one suite on one model; the results go into `evaluation.json` and onto the model's card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from prefdata.errors import InputError, StoreError
from prefdata.evaluation.alpaca_suite import AlpacaOptions, LengthControl, run_alpaca_eval
from prefdata.evaluation.harness import HarnessOptions, run_harness
from prefdata.evaluation.held_out import HeldOutOptions, run_held_out
from prefdata.evaluation.judges import judges_of
from prefdata.evaluation.record import FILE, Evaluation, write_record
from prefdata.evaluation.subject import Backend, Subject, subject_of
from prefdata.evaluation.suites import OPEN_LLM_SUITE, read_suite
from prefdata.flow.disk import make_folder, write_bytes
from prefdata.models import Generator
from prefdata.publish.card.evaluation import with_evaluation
from prefdata.publish.loadable import TRAINED
from prefdata.publish.manifest import MANIFEST, write_model_manifest
from prefdata.spec import JSON
from prefdata.tables.documents import read_text
from prefdata.tables.own_files import held

__all__ = ["evaluate"]

_SUITES = ("alpaca_eval", OPEN_LLM_SUITE.name, "held_out")


def evaluate(
    model: str | Path | Generator,
    suite: str = "alpaca_eval",
    *,
    out: str | Path | None = None,
    backend: Backend | None = None,
    endpoint: str | None = None,
    key_env: str = "OPENAI_API_KEY",
    limit: int | None = None,
    settings: Mapping[str, JSON] | None = None,
    baseline: str | Path | None = None,
    preset: str = "wpo_hybrid_v2",
    judge: Sequence[str] = (),
    judge_key_env: str = "OPENAI_API_KEY",
    df_gamed: str | Path | None = None,
    allow_other_df_gamed: bool = False,
    no_length_control: bool = False,
    dataset: Sequence[str] = (),
    split: str | None = None,
    reference: str | None = None,
    allow_code: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Evaluates a model by one suite, or goes on with an evaluation that was stopped; the same call resumes.

    Args:
        model: a folder, a model of the Hub, an embedded one, the name of a model at `endpoint`, or a generator.
        suite: `alpaca_eval`, `open_llm_v1`, `held_out`, or a YAML file of tasks of lm-evaluation-harness.
        out: the folder of the results; left out, the model's own folder, or `evaluations/NAME`.
        backend: the engine that runs the model here; left out, the one that is installed.
        endpoint: the address of an OpenAI-compatible endpoint that serves the model.
        key_env: the variable that holds the key of this endpoint.
        limit: the first rows of the evaluation set only, or of each task or dataset.
        settings: of the answers (and `seed`), of the training (`held_out`), or of the harness's model (`batch_size`).
        baseline: `alpaca_eval`: the instructions with a baseline's outputs, a file or a dataset of the Hub.
        preset: `alpaca_eval`: published generation settings, by the name of a shipped recipe.
        judge: `alpaca_eval`: judges, each as KIND=VALUE; docs/evaluate.md lists them.
        judge_key_env: the variable that holds the key of judges' endpoints.
        df_gamed: `alpaca_eval`: the file that length control needs.
        allow_other_df_gamed: take another file than the published one.
        no_length_control: leave the length-controlled win rate out.
        dataset: `held_out`: dataset folders, builds, Parquet files, or datasets of the Hub.
        split: `held_out`: the split; left out, the one that is named `test...`.
        reference: `held_out`: the reference model; left out, the one that training started from.
        allow_code: run task files that are Python code.
        log: takes lines for the person who watches.

    Raises:
        UserError: something is missing or refused, said before the first answer where it can be.
    """
    changes = settings or {}
    subject = subject_of(model, out, backend=backend, endpoint=endpoint, key_env=key_env)
    gamed = LengthControl(df_gamed, allow_other=allow_other_df_gamed, left_out=no_length_control)
    alpaca = AlpacaOptions(baseline, judges_of(judge, judge_key_env), preset, changes, limit, gamed)
    pairs = HeldOutOptions(tuple(dataset), split, reference, changes, limit)
    harness = HarnessOptions("vllm" if backend == "vllm" else "hf", limit, changes, allow_code)
    return _evaluated(subject, *_chosen(suite, subject, alpaca, pairs, harness, log), log)


def _chosen(
    suite: str,
    subject: Subject,
    alpaca: AlpacaOptions,
    pairs: HeldOutOptions,
    harness: HarnessOptions,
    log: Callable[[str], None],
) -> tuple[str, Callable[[], dict[str, JSON]]]:
    """Returns the suite's name in the record, and what runs it."""
    if suite == "alpaca_eval":
        return suite, partial(run_alpaca_eval, subject, alpaca, log)
    if suite == "held_out":
        return suite, partial(run_held_out, subject, pairs, log)
    if suite == OPEN_LLM_SUITE.name or suite.endswith((".yaml", ".yml")):
        tasks, include, hashes = read_suite(suite)
        return tasks.name, partial(run_harness, subject, tasks, include, hashes, harness, log)
    raise InputError(f"there is no suite {suite!r}", valid=f"{', '.join(_SUITES)}, or FILE.yaml")


def _evaluated(
    subject: Subject, name: str, run: Callable[[], dict[str, JSON]], log: Callable[[str], None]
) -> Evaluation:
    with _alone(subject, log):
        results = run()
        record = write_record(subject.folder, {"name": subject.name, "pins": dict(subject.pins)}, name, results, log)
        written = (FILE, "README.md") if _write_card(subject, record["suites"], log) else (FILE,)
        # A push publishes what the manifest of a trained model lists; other folders have none, or one of a dataset.
        if (subject.folder / TRAINED).is_file() and (subject.folder / MANIFEST).is_file():
            write_model_manifest(subject.folder, written, written=written)
    return Evaluation(subject.folder, name, results)


def _write_card(subject: Subject, suites: Mapping[str, JSON], log: Callable[[str], None]) -> bool:
    """Puts the results onto the card of a model of prefdata, and says so; a card by somebody else is left as it is."""
    path = subject.folder / "README.md"
    if not path.is_file():
        return False
    card = with_evaluation(read_text(path, subject.folder), subject.folder.resolve().name, suites)
    if card is None:
        log(f"{str(path)!r} is not a card of prefdata, and stays as it is")
        return False
    write_bytes(path, card.encode())
    return True


@contextmanager
def _alone(subject: Subject, log: Callable[[str], None]) -> Iterator[None]:
    make_folder(subject.work)
    with ExitStack() as stack:
        try:
            stack.enter_context(
                held(subject.work / ".lock", f"another process evaluates in {str(subject.folder)!r}", log)
            )
        except OSError as error:
            raise StoreError(
                f"{str(subject.work)!r} can't be written: {error.strerror}", hint="choose another folder with --out"
            ) from error
        yield
