"""One vocabulary of finish reasons, for whatever says why an answer ended."""

from __future__ import annotations

import json

import polars as pl
import pytest

from prefdata.models.endpoint._chat_answer import read_completion
from prefdata.models.hosted.base import _generation
from prefdata.pairing import BestVsWorst
from prefdata.sampling._completions import Columns, by_prompt
from prefdata.tables.finish_reasons import ending_of, finish_reason_of

WHOLE = ["stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP", "COMPLETE", "tool_calls", "endoftext"]
CUT_OFF = [
    *("length", "LENGTH", "max_tokens", "MAX_TOKENS", "maxTokens", "max_output_tokens", "model_length", "max_length"),
    *("FinishReason.MAX_TOKENS", "FINISH_REASON_MAX_TOKENS", "model_context_window_exceeded", "REASON_MAX_LEN"),
]
FAILED = [
    *("error", "abort", "content_filter", "CONTENT_FILTERED", "SAFETY", "RECITATION", "refusal", "ERROR_TOXIC"),
    *("PROHIBITED_CONTENT", "timeout", "insufficient_system_resource", "FinishReason.SAFETY"),
]
UNKNOWN = ["odd", "OTHER", "1", "-", "{'type': 'stop'}", "[]", "{}x"]
NOT_STATED = [None, "", " ", "unknown", "None", "null", float("nan"), "FINISH_REASON_UNSPECIFIED", {}, {"type": None}]
CASES = [
    *((word, "whole") for word in WHOLE),
    *((word, "cut_off") for word in CUT_OFF),
    *((word, "failed") for word in FAILED),
    *((word, "unknown") for word in UNKNOWN),
    *((word, None) for word in NOT_STATED),
]
"""Words of OpenAI, Anthropic, Gemini, Mistral, Cohere, Bedrock, DeepSeek, xAI, vLLM, SGLang, TGI, llama.cpp."""
KEPT = {"whole": "stop", "cut_off": "length", None: "unknown"}
FLAWS = {"cut_off": "cut_off", "failed": "failed", "unknown": "unknown_finish_reason"}


def scored(answers):
    """One prompt's answers: text, score, finish reason."""
    rows = [("p", "s", index, *answer) for index, answer in enumerate(answers)]
    names = ["prompt_id", "source", "index", "response", "score", "finish_reason"]
    return pl.DataFrame(rows, names, orient="row", schema_overrides={"finish_reason": pl.String})


@pytest.mark.parametrize(("word", "ending"), CASES)
def test_a_word_has_one_meaning_in_any_spelling(word, ending):
    assert ending_of(word) == ending
    if isinstance(word, str) and ending in KEPT:
        assert {ending_of(spelling) for spelling in (word.lower(), word.upper(), f" {word}\n")} == {ending}
    if isinstance(word, str) and word.strip():
        for cell in ({"type": word, "matched": 2}, json.dumps({"length": 64, "reason": word})):
            assert ending_of(cell) == ending
            assert finish_reason_of(cell) == finish_reason_of(word)
    # What is kept of a word means what the word means.
    assert ending_of(finish_reason_of(word)) == ending
    assert finish_reason_of(word) == KEPT.get(ending, str(word).strip())


def test_a_long_word_is_kept_in_part_and_a_deep_object_is_unknown():
    assert len(finish_reason_of("x" * 10_000)) <= 100
    deep = "{" + '"type": {' * 100_000
    assert ending_of(deep) == "unknown"
    nested = {"type": {"type": "stop"}}
    assert ending_of(nested) == "unknown"


@pytest.mark.parametrize(("word", "ending"), CASES)
def test_endpoints_engines_tables_and_rules_read_a_word_alike(word, ending):
    completion = {"choices": [{"message": {"content": "text"}, "finish_reason": word}]}
    answer = read_completion("key", completion)
    assert (answer.text is None) == (ending == "failed")
    if ending == "failed":
        assert answer.failure in ("request_failed", "content_filter")
        assert finish_reason_of(word) in answer.detail
    else:
        assert answer.finish_reason == finish_reason_of(word)
    engine = _generation({"key": "key", "text": "text", "finish_reason": word}, "model")
    assert engine.finish_reason == finish_reason_of(word)
    columns = Columns("prompt", None, "auto", {"response": "response", "finish_reason": "end"})
    rows = [{"prompt": "Why?", "response": "text", "end": word}]
    [table] = by_prompt(rows, columns, "given", lambda _: "given", lambda *_: None).values()
    assert table.candidates[0].finish_reason == finish_reason_of(word)
    if not isinstance(word, dict | float):
        flaw = FLAWS.get(ending)
        for spelled in (word, finish_reason_of(word)):
            frame = scored([("good", 9.0, spelled), ("better", 5.0, "stop"), ("bad", 1.0, None)])
            paired = BestVsWorst().pair(frame)
            assert paired.pairs["response_chosen"].to_list() == (["better"] if flaw else ["good"])
            assert paired.ineligible["reason"].to_list() == ([flaw] if flaw else [])
            if flaw:
                admitting = BestVsWorst(admit=(flaw,)).pair(frame)
                assert admitting.pairs["response_chosen"].to_list() == ["good"]
                assert admitting.ineligible.height == 0


def test_the_word_of_an_answer_that_is_not_eligible_is_in_its_drop():
    ends = ("odd", "SAFETY", "MAX_TOKENS", None, "eos")
    frame = scored([(f"answer {number}", float(number), end) for number, end in enumerate(ends)])
    drops = BestVsWorst().pair(frame).ineligible
    assert drops.select("reason", "detail").rows() == [
        ("unknown_finish_reason", "odd"),
        ("failed", "SAFETY"),
        ("cut_off", ""),
    ]
