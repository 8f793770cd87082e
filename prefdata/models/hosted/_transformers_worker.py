"""Runs the worker of `Transformers`: left-padded batches, and one random generator for each row."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prefdata.errors import MissingExtraError, ModelError
from prefdata.models.chat import ItemError, mark_id
from prefdata.models.hosted._json_schema import Enforcers
from prefdata.models.hosted._prompts import Prompts
from prefdata.models.worker import WorkerChannel, open_channel
from prefdata.spec import JSON

_GREEDY_BELOW = 1e-5
"""Temperatures below this take the most likely token, as in vLLM."""


def main() -> None:
    """Answers batch by batch until every request is answered."""
    with open_channel() as channel:
        sampler = _Sampler(channel.config)
        size = channel.config["batch_size"]
        for options in channel.rounds():
            sampler.decode_as(options["decoding"])
            while items := channel.receive(at_least=size, at_most=size):
                for rows in _batches(channel, sampler, items):
                    for result in sampler.answer(rows):
                        channel.send(result)


@dataclass
class Row:
    """One request under way."""

    key: str
    ids: list[int]
    limit: int
    """Most tokens of the answer."""
    generator: Any
    n_likeliest: int = 0
    """How many of the likeliest tokens are returned at each position."""
    likeliest: list[list[tuple[int, float]]] = field(default_factory=list)
    """Tokens and log-probabilities at each position so far."""
    enforcer: Any = None
    """Lists the tokens that may follow, if the answer must follow a JSON schema."""
    stopped_at: int | None = None
    """Number of answer tokens when a stop text appeared."""
    schema_error: ItemError | None = None
    """Why the schema could not be enforced to the end."""


def _batches(channel: WorkerChannel, sampler: _Sampler, items: list[dict[str, JSON]]) -> list[list[Row]]:
    """Groups the requests that can be answered into batches: one of all, but each with little room by itself.

    A row with less room than the token limit would run beyond the model's last position while the other rows go on.
    """
    together: list[Row] = []
    alone: list[list[Row]] = []
    for item in items:
        try:
            row = sampler.row(item)
        except ItemError as error:
            channel.send(error.result(item["key"]))
        else:
            if row.limit < sampler.max_tokens:
                alone.append([row])
            else:
                together.append(row)
    return [batch for batch in (together, *alone) if batch]


class _Sampler:
    """The model, and how tokens are drawn from it."""

    def __init__(self, config: dict[str, JSON]) -> None:
        import torch
        from transformers import GenerationConfig

        self.tokenizer, model = _load(config)
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.eos = _eos(self.model, self.tokenizer)
        pad = mark_id(self.tokenizer, "pad")
        self.pad = self.eos[0] if pad is None else pad
        # Otherwise the model's own sampling defaults (top-k, repetition penalty, ...) would apply.
        self.model.generation_config = GenerationConfig(eos_token_id=self.eos, pad_token_id=self.pad)
        self.decoding: dict[str, JSON] = {}
        self.max_tokens = 0
        limit = _max_model_len(self.model, self.tokenizer, config["max_model_len"])
        self.prompts = Prompts.of(self.tokenizer, config, limit)
        self.enforcers: Enforcers | None = None

    def decode_as(self, decoding: dict[str, JSON]) -> None:
        """Sets how tokens are drawn from now on."""
        self.decoding, self.max_tokens = decoding, decoding["max_tokens"]

    def row(self, item: dict[str, JSON]) -> Row:
        """Renders one request.

        Raises:
            ItemError: the request can't be answered.
        """
        import torch

        ids = self.prompts.render(item["messages"])
        limit = min(self.max_tokens, self.prompts.room(ids))
        row = Row(item["key"], ids, limit, torch.Generator().manual_seed(item["seed"]), item["top_logprobs"])
        if item["json_schema"] is not None:
            if self.enforcers is None:
                if importlib.util.find_spec("lmformatenforcer") is None:
                    raise MissingExtraError.of("a JSON schema", "lm-format-enforcer", "transformers")
                self.enforcers = Enforcers(self.tokenizer, self.eos)
            row.enforcer = self.enforcers.enforcer(item["json_schema"])
        return row

    def answer(self, rows: list[Row]) -> list[dict[str, JSON]]:
        """Answers one batch."""
        import torch

        width = max(len(row.ids) for row in rows)
        ids = torch.tensor([[self.pad] * (width - len(row.ids)) + row.ids for row in rows])
        mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows])
        stops = tuple(self.decoding["stop"])
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                do_sample=False,
                max_new_tokens=max(row.limit for row in rows),
                logits_processor=[_Draw(rows, width, self.decoding, self.eos)],
                stopping_criteria=[_StopTexts(rows, width, stops, self.tokenizer)] if stops else [],
            )
        answers = output[:, width:].tolist()
        return [self._result(row, answer) for row, answer in zip(rows, answers, strict=True)]

    def _result(self, row: Row, answer: list[int]) -> dict[str, JSON]:
        if row.schema_error is not None:
            return row.schema_error.result(row.key)
        ends = [i + 1 for i, token in enumerate(answer) if token in self.eos]
        end = min([*ends[:1], *([] if row.stopped_at is None else [row.stopped_at])], default=None)
        kept = answer[: row.limit if end is None else end]
        text = self.prompts.revealed(kept, self.tokenizer.decode(kept, skip_special_tokens=True))
        cuts = [at for stop in self.decoding["stop"] if (at := text.find(stop)) >= 0]
        result: dict[str, JSON] = {
            "key": row.key,
            "text": text[: min(cuts)] if cuts else text,
            "finish_reason": "length" if end is None else "stop",
            "n_prompt_tokens": len(row.ids),
            "n_tokens": len(kept),
        }
        if row.enforcer is None:
            # A schema begins with the answer itself, also after a mark that the prompt ends with.
            result["opened"] = self.prompts.opened(row.ids)
        if row.n_likeliest:
            positions = row.likeliest[: len(kept)]
            result["top_logprobs"] = [self.prompts.likeliest(logprobs, row.n_likeliest) for logprobs in positions]
        return result


class _Draw:
    """A logits processor after which the most likely token of each row is the drawn one.

    To divide probabilities by exponential noise and take the largest is to draw from them (the Gumbel-max trick). The
    noise of a row comes from the row's own generator, on the CPU, so that it is the same on any device.
    """

    def __init__(self, rows: list[Row], width: int, decoding: dict[str, JSON], eos: list[int]) -> None:
        self._rows = rows
        self._width = width
        self._temperature: float = decoding["temperature"]
        self._top_p: float = decoding["top_p"]
        self._top_k: int | None = decoding.get("top_k")
        self._presence: float = decoding.get("presence_penalty", 0.0)
        self._frequency: float = decoding.get("frequency_penalty", 0.0)
        self._eos = eos

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Changes the logits for the next token; shape (rows, vocabulary)."""
        import torch

        scores = scores.float()
        self._note(scores)
        if self._presence or self._frequency:
            scores = self._penalised(input_ids[:, self._width :], scores)
        for i, row in enumerate(self._rows):
            if row.enforcer is not None:
                scores[i] = self._enforce(row, input_ids[i, self._width :].tolist(), scores[i])
        if self._temperature < _GREEDY_BELOW:
            return scores
        scores = _likeliest(scores / self._temperature, self._top_k)
        scores = _nucleus(torch.log_softmax(scores, dim=-1), self._top_p)
        noise = torch.empty(scores.shape, dtype=torch.float32)
        for i, row in enumerate(self._rows):
            noise[i].exponential_(generator=row.generator)
        smallest = torch.finfo(torch.float32).tiny
        return scores - noise.clamp_min(smallest).log().to(scores.device)

    def _penalised(self, answers: Any, scores: Any) -> Any:
        """Lowers the logits of tokens that an answer already holds, as OpenAI's API defines it."""
        import torch

        counts = torch.zeros_like(scores).scatter_add_(1, answers, torch.ones_like(answers, dtype=scores.dtype))
        return scores - self._frequency * counts - self._presence * (counts > 0)

    def _note(self, scores: Any) -> None:
        """Records the likeliest tokens of rows that ask for them, before the probabilities are changed."""
        import torch

        for i, row in enumerate(self._rows):
            if row.n_likeliest:
                values, tokens = torch.log_softmax(scores[i], dim=-1).topk(min(row.n_likeliest, scores.shape[-1]))
                row.likeliest.append(list(zip(tokens.tolist(), values.tolist(), strict=True)))

    def _enforce(self, row: Row, answer: list[int], scores: Any) -> Any:
        import torch

        ended = row.schema_error is not None or any(token in self._eos for token in answer)
        try:
            allowed = self._eos if ended else row.enforcer.allowed(answer)
        except ItemError as error:
            row.schema_error = error
            allowed = self._eos
        masked = torch.full_like(scores, -torch.inf)
        masked[allowed] = scores[allowed]
        return masked


def _likeliest(logits: Any, top_k: int | None) -> Any:
    """Keeps the `top_k` largest logits; those that equal the smallest of them stay too."""
    if top_k is None or top_k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < logits.topk(top_k, dim=-1).values[:, -1:], -float("inf"))


def _nucleus(logprobs: Any, top_p: float) -> Any:
    """Keeps the smallest set of tokens whose probability reaches `top_p`, including the token that reaches it."""
    if top_p >= 1:
        return logprobs
    ordered, order = logprobs.sort(dim=-1, descending=True, stable=True)
    probability = ordered.exp()
    before = probability.cumsum(dim=-1) - probability
    outside = (before >= top_p).scatter(-1, order, before >= top_p)
    return logprobs.masked_fill(outside, -float("inf"))


class _StopTexts:
    """A stopping criterion that ends a row whose last tokens hold a stop text."""

    def __init__(self, rows: list[Row], width: int, stops: Sequence[str], tokenizer: Any) -> None:
        self._rows = rows
        self._width = width
        self._stops = stops
        self._tokenizer = tokenizer
        # A token has at least one byte, so no stop text spans more tokens than it has bytes.
        self._tail = max(len(stop.encode()) for stop in stops) + 1

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Returns whether each row is done; shape (rows,)."""
        import torch

        length = input_ids.shape[1]
        begin = max(self._width, length - self._tail)
        for row, ids in zip(self._rows, input_ids[:, begin:].tolist(), strict=True):
            if row.stopped_at is None:
                text = self._tokenizer.decode(ids, skip_special_tokens=True)
                if any(stop in text for stop in self._stops):
                    row.stopped_at = length - self._width
        return torch.tensor([row.stopped_at is not None for row in self._rows], device=input_ids.device)


def _load(config: dict[str, JSON]) -> tuple[Any, Any]:
    """Loads the tokenizer and the model of a folder.

    Raises:
        ModelError: transformers can't load the model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, trust = config["folder"], config["trust_remote_code"]
    dtype = config["dtype"] if config["dtype"] == "auto" else getattr(torch, config["dtype"])
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=trust, use_safetensors=True)
        return tokenizer, model
    except (OSError, ValueError) as error:
        # Missing weights, an architecture that it does not know, or one that comes with its own code.
        raise ModelError(
            f"transformers can't load the model in {folder!r}: {error}",
            hint="check the folder; a model that comes with its own code needs trust_remote_code",
        ) from error


def _eos(model: Any, tokenizer: Any) -> list[int]:
    """Lists all tokens that end an answer: chat models often have several.

    Raises:
        ModelError: the model names none.
    """
    of_model = model.generation_config.eos_token_id
    ids = of_model if isinstance(of_model, list) else [of_model]
    eos = sorted({int(token) for token in (*ids, mark_id(tokenizer, "eos")) if token is not None})
    if not eos:
        raise ModelError(f"the model in {model.name_or_path!r} names no token that ends an answer")
    return eos


def _max_model_len(model: Any, tokenizer: Any, requested: int | None) -> int:
    """Returns the most tokens of prompt and answer: the requested number, else the model's own limit.

    Raises:
        ModelError: the requested number is more than the model has positions.
    """
    own = int(getattr(model.config.get_text_config(), "max_position_embeddings", tokenizer.model_max_length))
    if requested is not None and requested > own:
        raise ModelError(
            f"max_model_len is {requested}, but the model in {model.name_or_path!r} has {own} positions",
            valid=f"2 to {own}",
        )
    return requested or own


if __name__ == "__main__":
    main()
