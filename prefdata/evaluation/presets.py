"""Generation settings that were published with evaluated models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from prefdata.errors import InputError, closest
from prefdata.models import Decoding
from prefdata.spec import JSON

__all__ = ["PRESETS", "Preset", "settings_of"]


@dataclass(frozen=True)
class Preset:
    """How the answers of a published model were drawn."""

    decoding: Decoding
    seed: int
    published_with: str
    """The model whose entry in AlpacaEval's `models_configs` has these settings."""


# Source: src/alpaca_eval/models_configs of github.com/tatsu-lab/alpaca_eval. Where no seed is given it is 42.
PRESETS = {
    "wpo_hybrid_v2": Preset(
        Decoding(temperature=0.7, top_k=50, top_p=0.9, presence_penalty=0.1, frequency_penalty=0.1, max_tokens=4096),
        42,
        "wzhouad/Llama3-Instruct-8B-WPO-HB-v2",
    ),
    "gpo_gpm_llama3": Preset(
        Decoding(temperature=0.9, top_p=1.0, max_tokens=4096), 42, "general-preference/GPO-Llama-3-8B-Instruct-GPM-2B"
    ),
    "sppo_llama3": Preset(
        Decoding(temperature=0.9, top_p=1.0, max_tokens=4096), 42, "UCLA-AGI/Llama-3-Instruct-8B-SPPO-Iter3"
    ),
}
"""Name, as of the shipped recipe → settings."""


def settings_of(preset: str, changes: Mapping[str, JSON]) -> tuple[Decoding, int]:
    """Returns the decoding and the seed of a preset, with some values changed.

    Args:
        preset: a name in `PRESETS`.
        changes: field of `Decoding`, or `seed` → value.

    Raises:
        InputError: there is no such preset or field, or the value is not valid.
    """
    if preset not in PRESETS:
        raise InputError(f"{preset!r} is not a preset of generation settings", valid=closest(preset, PRESETS))
    known = PRESETS[preset]
    seed = changes.get("seed", known.seed)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"the seed {seed!r} is not a whole number", valid="--set seed=42")
    fields = {name: value for name, value in changes.items() if name != "seed"}
    for name in fields:
        if name not in Decoding.model_fields:
            raise InputError(
                f"{name!r} is not a generation setting", valid=closest(name, [*Decoding.model_fields, "seed"])
            )
    try:
        return Decoding.model_validate({**known.decoding.dump(), **fields}), seed
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"the generation setting {first['loc'][0]} = {first['input']!r}: {first['msg']}") from error
