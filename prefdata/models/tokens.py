"""How many tokens a text has: by the model's own tokenizer where it is on this machine, else by a rule of thumb."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata import hub
from prefdata.errors import UserError
from prefdata.models.embedded import embedded_folder
from prefdata.models.folders import model_name
from prefdata.spec import JSON

__all__ = ["BYTES_PER_TOKEN", "TokenCounter", "token_counter"]

BYTES_PER_TOKEN = 4.0
"""UTF-8 bytes of one token of English text, as tokenizers of chat models have it; other scripts take fewer."""
_EMBEDDED = "embedded:"
_SAMPLE_BYTES = 2_000_000


class TokenCounter:
    """Counts the tokens of texts.

    Args:
        how: what messages call the way it counts.
        tokenizer: a `tokenizers.Tokenizer`; None divides bytes.
    """

    def __init__(self, how: str, tokenizer: Any = None) -> None:
        self.how = how
        self._tokenizer = tokenizer

    def total(self, texts: Sequence[str]) -> int:
        """The tokens of all texts together: of many, as many as a part of them has for each byte."""
        sizes = [len(text.encode("utf-8", "replace")) for text in texts]
        if self._tokenizer is None:
            return round(sum(sizes) / BYTES_PER_TOKEN)
        step = max(1, sum(sizes) // _SAMPLE_BYTES)
        counted = self._tokenizer.encode_batch(list(texts[::step]), add_special_tokens=False)
        bytes_counted = sum(sizes[::step])
        return round(sum(map(len, counted)) * (sum(sizes) / bytes_counted if bytes_counted else 0.0))


_ESTIMATE = TokenCounter(f"estimated, {BYTES_PER_TOKEN:g} bytes a token")


def token_counter(model: str | None, revision: str | None, pins: Mapping[str, JSON]) -> TokenCounter:
    """The counter of a model; of one whose tokenizer is not at hand, an estimate that says that it is one.

    Args:
        model: as a generator that runs on this machine names it; None for one that runs elsewhere.
        revision: of a Hub model.
        pins: what the lock says of the model.
    """
    folder = None if model is None else _folder(model, revision, pins)
    if model is None or folder is None or importlib.util.find_spec("tokenizers") is None:
        return _ESTIMATE
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # noqa: BLE001 - the package raises nothing more special, and a plan needs no tokenizer
        return _ESTIMATE
    return TokenCounter(f"tokenizer of {model_name(model)}", tokenizer)


def _folder(model: str, revision: str | None, pins: Mapping[str, JSON]) -> Path | None:
    """Where the model's `tokenizer.json` is; nothing but small files of a Hub model is fetched for it."""
    try:
        if model.startswith(_EMBEDDED):
            folder = embedded_folder(model.removeprefix(_EMBEDDED))
        elif Path(model).expanduser().is_dir():
            folder = Path(model).expanduser()
        else:
            sha: str = pins.get("sha") or hub.resolve_model(model, revision)
            folder = hub.download_model(model, sha, weights=False)
    except UserError:
        # The plan tells what is wrong with the model; here it only means that nobody can count with it.
        return None
    return folder if (folder / "tokenizer.json").is_file() else None
