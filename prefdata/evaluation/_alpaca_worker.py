"""Runs AlpacaEval in a process of its own: its annotator, and its win rates.

An item holds `annotate`, rows of texts, or `measure`, rows of (index, preference, lengths of both outputs).
"""

from __future__ import annotations

import os
from typing import Any

from prefdata.errors import InputError, ModelError
from prefdata.models.worker import WorkerChannel, open_channel
from prefdata.spec import JSON

_COUNTS = ("n_wins", "n_wins_base", "n_draws", "n_total")


def main() -> None:
    """Handles one item after the other."""
    with open_channel() as channel:
        annotator: Any = None
        while items := channel.receive(at_most=1):
            (item,) = items
            if "annotate" in item:
                annotator = annotator or _annotator(channel)
                channel.send({"preferences": _annotated(annotator, item["annotate"], channel.config)})
            else:
                channel.send({"metrics": _measured(item)})


def _annotator(channel: WorkerChannel) -> Any:
    from alpaca_eval.annotators import PairwiseAnnotator
    from alpaca_eval.constants import EVALUATORS_CONFIG_DIR

    name = channel.config["annotator"]
    if not (EVALUATORS_CONFIG_DIR / name).exists():
        raise InputError(
            f"AlpacaEval has no annotator {name!r}",
            valid="a folder with a configs.yaml, or a name such as weighted_alpaca_eval_gpt4_turbo",
        )
    # The parent keeps what was annotated, and the next run asks for the rest.
    return PairwiseAnnotator(annotators_config=name, caching_path=None)


def _annotated(annotator: Any, rows: list[dict[str, JSON]], config: dict[str, JSON]) -> list[float | None]:
    import openai
    import pandas as pd

    try:
        annotated = annotator.annotate_pairs(pd.DataFrame(rows), chunksize=None)
    except openai.OpenAIError as error:
        said = str(error).replace(os.environ.get("OPENAI_API_KEY") or "\0", "***")
        raise ModelError(
            f"the judge at {config['endpoint']!r} failed: {type(error).__name__}: {said}",
            hint="run the same command again: it goes on where it stopped",
        ) from None
    # By the texts: rows of equal texts are annotated once.
    by_texts = {
        tuple(row[part] for part in ("instruction", "output_1", "output_2")): row.get("preference") for row in annotated
    }
    found = [by_texts[(row["instruction"], row["output_1"], row["output_2"])] for row in rows]
    return [None if preference is None or pd.isna(preference) else float(preference) for preference in found]


def _measured(item: dict[str, JSON]) -> dict[str, JSON]:
    import pandas as pd
    from alpaca_eval import metrics
    from alpaca_eval.metrics import glm_winrate

    index, preference, len_1, len_2 = zip(*item["measure"], strict=True)
    baseline, model = item["names"]
    # Of the texts only their lengths count.
    frame = pd.DataFrame(
        {
            "index": index,
            "preference": pd.Series(preference, dtype=float),
            "output_1": ["x" * length for length in len_1],
            "output_2": ["x" * length for length in len_2],
            "generator_1": baseline,
            # AlpacaEval takes equal names for the baseline judged against itself.
            "generator_2": model if model != baseline else f"{model} (evaluated)",
        }
    )
    if item["df_gamed"] is None:
        found = metrics.get_winrate(frame)
    else:
        _check_indexes(item["df_gamed"], index)
        if len({one - two for one, two in zip(len_1, len_2, strict=True)}) < 2:
            raise InputError(
                "length control can't be fitted: the outputs differ in length from the baseline's all by the same",
                hint="evaluate more instructions, or leave length control out: --no-length-control",
            )
        glm_winrate.hf_hub_download = lambda **_: item["df_gamed"]
        found = metrics.get_length_controlled_winrate(frame, save_weights_dir=None)
    numbers = {name: int(value) if name in _COUNTS else float(value) for name, value in found.items()}
    return {**numbers, "versions": _versions()}


def _check_indexes(df_gamed: str, indexes: tuple[int, ...]) -> None:
    import pandas as pd

    known = set(pd.read_csv(df_gamed, usecols=["index"])["index"])
    if strange := sorted(set(indexes) - known):
        raise InputError(
            f"{df_gamed!r} has no difficulty for {len(strange):,} instructions; the first is row {strange[0]}",
            valid=f"an evaluation set of {len(known):,} instructions, in its published order",
            hint="leave length control out: --no-length-control",
        )


def _versions() -> dict[str, JSON]:
    from importlib.metadata import version

    return {name: version(name) for name in ("alpaca_eval", "scikit-learn", "pandas", "numpy")}


if __name__ == "__main__":
    main()
