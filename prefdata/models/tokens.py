"""Counts the tokens of texts: by the model's own tokenizer where it is on this machine, else by a rule of thumb."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata import hub
from prefdata.errors import MissingExtraError, ModelError, UserError
from prefdata.models.embedded import embedded_folder
from prefdata.models.folders import model_name
from prefdata.spec import JSON

__all__ = ["BYTES_PER_TOKEN", "TokenCounter", "exact_tokenizer", "token_counter"]

BYTES_PER_TOKEN = 4.0
"""UTF-8 bytes a token of English text, roughly, in tokenizers of chat models; other scripts have fewer."""
_EMBEDDED = "embedded:"
_SAMPLE_BYTES = 2_000_000


class TokenCounter:
    """Counts the tokens of texts.

    Args:
        how: name of the method, for messages.
        tokenizer: a `tokenizers.Tokenizer`; None divides the number of bytes by `BYTES_PER_TOKEN`.
    """

    def __init__(self, how: str, tokenizer: Any = None) -> None:
        self.how = how
        self._tokenizer = tokenizer

    def total(self, texts: Sequence[str]) -> int:
        """Returns the total tokens of the texts. Above 2 MB, counts a sample and scales by bytes."""
        sizes = [len(text.encode("utf-8", "replace")) for text in texts]
        if self._tokenizer is None:
            return round(sum(sizes) / BYTES_PER_TOKEN)
        step = max(1, sum(sizes) // _SAMPLE_BYTES)
        encodings = self._tokenizer.encode_batch(list(texts[::step]), add_special_tokens=False)
        sample_bytes = sum(sizes[::step])
        return round(sum(map(len, encodings)) * (sum(sizes) / sample_bytes if sample_bytes else 0.0))


_ESTIMATE = TokenCounter(f"estimated, {BYTES_PER_TOKEN:g} bytes a token")


def token_counter(model: str | None, revision: str | None, pins: Mapping[str, JSON]) -> TokenCounter:
    """Returns the counter of a model. Without its tokenizer the counter estimates, and its `how` says so.

    Args:
        model: as a generator that runs on this machine names it; None for one that runs elsewhere.
        revision: of a Hub model.
        pins: the model's pins in the lock.
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


def exact_tokenizer(path: str | Path) -> Callable[[Sequence[str]], list[list[int]]]:
    """Loads the tokenizer of a model that is on this machine; returns a function from texts to their token ids.

    Args:
        path: the model's folder, its `tokenizer.json`, or `embedded:NAME`.

    Raises:
        ModelError: there is none.
        MissingExtraError: `tokenizers` is not installed.
    """
    name = str(path)
    folder = embedded_folder(name.removeprefix(_EMBEDDED)) if name.startswith(_EMBEDDED) else Path(name).expanduser()
    file = folder / "tokenizer.json" if folder.is_dir() else folder
    if not file.is_file():
        raise ModelError(
            f"{name!r} has no tokenizer.json", valid="a model's folder, its tokenizer.json, or embedded:NAME"
        )
    if importlib.util.find_spec("tokenizers") is None:
        raise MissingExtraError.of("counting tokens", "tokenizers", "train")
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the package raises nothing more special
        raise ModelError(f"{str(file)!r} is not a tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _folder(model: str, revision: str | None, pins: Mapping[str, JSON]) -> Path | None:
    """Returns the folder of the model's `tokenizer.json`, or None; of a Hub model only small files are fetched."""
    try:
        if model.startswith(_EMBEDDED):
            folder = embedded_folder(model.removeprefix(_EMBEDDED))
        elif Path(model).expanduser().is_dir():
            folder = Path(model).expanduser()
        else:
            sha: str = pins.get("sha") or hub.resolve_model(model, revision)
            folder = hub.download_model(model, sha, weights=False)
    except UserError:
        # The plan reports what is wrong with the model; here it only means that its tokenizer can't be used.
        return None
    return folder if (folder / "tokenizer.json").is_file() else None
