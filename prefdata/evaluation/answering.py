"""Answers instructions with a model, and keeps each answer as soon as it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import ConservationError, ModelError
from prefdata.evaluation.rows_of_files import Instruction
from prefdata.flow.disk import make_folder
from prefdata.flow.journal import Journal
from prefdata.flow.progress import Progress
from prefdata.models import Decoding, Generator
from prefdata.records import Generation, Message, Request, as_messages, prompt_id_of
from prefdata.spec import JSON, Context, derive_seed, fingerprint

__all__ = ["Answer", "answer_all"]

_SYNC_EVERY = 64


@dataclass(frozen=True)
class Answer:
    """A model's answer to one instruction."""

    instruction: Instruction
    text: str
    finish_reason: str
    n_tokens: int | None


def answer_all(
    instructions: Sequence[Instruction],
    generator: Generator,
    pins: Mapping[str, JSON],
    decoding: Decoding,
    seed: int,
    work: Path,
    log: Callable[[str], None],
) -> list[Answer]:
    """Answers each instruction, in order. What an earlier run has answered is not asked again.

    Args:
        instructions: of one evaluation set.
        generator: the model.
        pins: of the generator.
        decoding: how tokens are drawn.
        seed: each answer's seed is derived from it, the instruction and how often that has occurred before.
        work: the folder of journals; each journal is named after everything that its answers depend on.
        log: takes a line for the person who watches.

    Raises:
        ModelError: the model can't be started, or could not answer some of the instructions.
    """
    make_folder(work)
    key = fingerprint([generator.identity(), dict(pins), decoding.dump(), seed])[:16]
    journal = Journal(work / f"answers-{key}.jsonl")
    kept: dict[str, JSON] = {record["key"]: record for record in journal.read()}
    if journal.damaged:
        log(f"{journal.damaged:,} damaged lines of {journal.path.name} are answered again")
    named = dict(_named(instructions))
    requests = {name: Request(name, _turn(row), derive_seed(seed, *name.split(":"))) for name, row in named.items()}
    waiting = [request for name, request in requests.items() if name not in kept]
    if waiting:
        log(f"{len(named) - len(waiting):,} of {len(named):,} answers are there")
    failures: Counter[str] = Counter()
    try:
        with Progress.of("answers", len(named), "answers") as progress:
            progress.advance(len(named) - len(waiting), fresh=False)
            answered = generator.generate(iter(waiting), decoding, Context(seed, pins, log)) if waiting else ()
            for number, answer in enumerate(answered):
                if answer.text is None:
                    failures[answer.failure or "request_failed"] += 1
                else:
                    kept[answer.key] = _record(answer)
                    journal.append(kept[answer.key])
                    progress.advance(1)
                if number % _SYNC_EVERY == 0:
                    journal.sync()
        journal.sync()
    finally:
        journal.close()
    _check_whole(named, kept, failures)
    return [Answer(row, *(kept[name][part] for part in _PARTS)) for name, row in named.items()]


_PARTS = ("text", "finish_reason", "n_tokens")


def _record(answer: Generation) -> dict[str, JSON]:
    return {"key": answer.key, **{part: getattr(answer, part) for part in _PARTS}}


def _turn(row: Instruction) -> tuple[Message, ...]:
    return as_messages(row.text)


def _named(instructions: Sequence[Instruction]) -> Iterator[tuple[str, Instruction]]:
    """Names each instruction by its prompt id and by how often that has occurred before."""
    occurred: Counter[str] = Counter()
    for row in instructions:
        prompt_id = prompt_id_of(_turn(row))
        yield f"{prompt_id}:{occurred[prompt_id]}", row
        occurred[prompt_id] += 1


def _check_whole(named: Mapping[str, Instruction], kept: Mapping[str, JSON], failures: Mapping[str, int]) -> None:
    missing = [row.index for name, row in named.items() if name not in kept]
    if len(missing) != sum(failures.values()):
        raise ConservationError(f"{len(missing)} instructions without an answer, {sum(failures.values())} failures")
    if missing:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(failures.items()))
        raise ModelError(
            f"{len(missing):,} of {len(named):,} instructions have no answer: {reasons}; the first is row {missing[0]}",
            valid="an answer to each: a win rate over the rest would not be comparable",
            hint="run the same command again: it asks for these only. prompt_too_long: lower --set max_tokens",
        )
