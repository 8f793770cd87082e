"""Splits a model's text into the reasoning that it begins with and the answer after it.

A text has reasoning where it begins with an opening mark of a known pair (`<think>`), where it holds a closing mark on
a line of its own without an opening one (the chat template had opened it), or where it is in the harmony format.
Reasoning in the middle of a text is a part of the answer.

An empty block (Qwen3's `<think></think>`) has the marks of reasoning and none of it: the answer stands after it, and
the text counts as one without reasoning (`Parts.reasoned`).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

from prefdata.lazy import pl
from prefdata.records import LengthUnit, text_length

__all__ = [
    "MARKS",
    "Apart",
    "Marks",
    "Parts",
    "Thinking",
    "answer_length",
    "answer_of",
    "answers_of",
    "has_reasoning",
    "parts_of",
    "reasoned_answers_of",
    "set_apart",
]

Marks: TypeAlias = tuple[str, str]
"""What stands before and after reasoning."""
_TAGS = ("think", "thinking", "thought", "thoughts", "reasoning", "scratchpad", "longcat_think")
MARKS: tuple[Marks, ...] = (
    *((f"<{name}>", f"</{name}>") for tag in _TAGS for name in (tag, tag.upper(), tag.capitalize())),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<unused94>", "<unused95>"),
)
"""The pairs of the usual models: DeepSeek-R1, Qwen3 and QwQ, Magistral, Seed-OSS, Sky-T1, Kimi, Command A, ..."""

_OPENING = "|".join(re.escape(begin) for begin, _ in MARKS)
_SHOWN = 200
_LONE = "</think>"
"""The one closing mark whose opening one templates write: DeepSeek-R1's and QwQ's."""
_HARMONY = r"(?:<\|start\|>assistant)?<\|channel\|>"
_BARE_HARMONY = r"analysis[A-Z]"
"""Harmony whose control tokens were left out, as engines decode it by default: `analysisWe need ...assistantfinal...`.
Without `assistantfinal` it is reasoning that was cut off if it goes on as a sentence does, or else code that begins
with a name, such as `analysisResult = ...`."""
_SPACE = r"[\s\x1c-\x1f]*"
"""White space, the same in Python and in Polars."""
_BEGIN = rf"\A{_SPACE}(?:{_OPENING}|{_HARMONY}|{_BARE_HARMONY})"
_BEGINS = re.compile(_BEGIN)
_HARMONY_BEGIN = re.compile(rf"{_SPACE}{_HARMONY}")
_HARMONY_PART = re.compile(
    r"<\|channel\|>\s*(?P<channel>\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<text>.*?)(?=<\|end\|>|<\|return\|>|<\|call\|>|<\|start\|>|<\|channel\|>|\Z)",
    re.DOTALL,
)
_BARE_BEGIN = re.compile(rf"{_SPACE}(?={_BARE_HARMONY})analysis")
_BARE_FINAL = "assistantfinal"
_BARE_SENTENCE = re.compile(r"[A-Z][\w’']*[,.:;!?]?\s+[\w\"'“({\[*`<]")
_LONE_END = re.compile(rf"^[ \t]*{_LONE}\s*|{_LONE}[ \t]*(?:\n\s*|\Z)", re.MULTILINE)


Thinking: TypeAlias = Literal["keep", "cut", "refuse"]
"""What becomes of reasoning: it is stored beside the answer, it is left out, or the answer is refused."""


class Parts(NamedTuple):
    """A text in two."""

    reasoning: str | None
    """Without its marks and without white space at its ends; None where the text has no marks of it."""
    answer: str | None
    """What stands after the reasoning; None where the reasoning has no end. The text itself where it has none."""

    @property
    def reasoned(self) -> bool:
        """Whether there is reasoning between the marks."""
        return bool(self.reasoning)


def parts_of(text: str, marks: Marks | None = None) -> Parts:
    """Splits a text.

    Args:
        text: as a model wrote it.
        marks: a further pair that counts, besides `MARKS`.
    """
    if marks is None and _LONE not in text and not _BEGINS.match(text):
        return Parts(None, text)
    if _HARMONY_BEGIN.match(text):
        return _harmony(text)
    bare = _BARE_BEGIN.match(text)
    if bare and (_BARE_FINAL in text or _BARE_SENTENCE.match(text, bare.end())):
        reasoning, end, answer = text[bare.end() :].partition(_BARE_FINAL)
        return Parts(reasoning.strip(), answer.lstrip() if end else None)
    pairs = MARKS if marks is None else (marks, *MARKS)
    reasons: list[str] = []
    rest = text
    while (pair := _opened(rest, pairs)) is not None:
        reasoning, end, after = rest.lstrip()[len(pair[0]) :].partition(pair[1])
        reasons.append(reasoning.strip())
        if not end:
            return Parts(_joined(reasons), None)
        rest = after.lstrip()
    if reasons:
        return Parts(_joined(reasons), rest)
    return _after_lone_end(text, pairs)


class Apart(NamedTuple):
    """An answer and its reasoning, as they are stored."""

    text: str
    """The answer; of one that is nothing but reasoning, a text that every reader of answers knows as such."""
    reasoning: str | None
    """None where there is none, empty where it is not kept."""
    refused: str
    """The beginning of reasoning for which the answer is refused; empty where it is not."""


def set_apart(text: str, thinking: Thinking, marks: Marks | None = None, beside: str | None = None) -> Apart:
    """Takes the reasoning out of an answer.

    Args:
        text: as a model wrote it.
        thinking: what becomes of the reasoning.
        marks: see `parts_of`.
        beside: reasoning that came beside the text.
    """
    parts = parts_of(text, marks)
    reasons = [part for part in (beside, parts.reasoning) if part is not None]
    if not reasons:
        return Apart(text, None, "")
    reasoning, answer = _joined(reasons), parts.answer or ""
    if thinking == "refuse" and reasoning.strip():
        return Apart(text, None, reasoning.strip()[:_SHOWN])
    kept = reasoning if thinking == "keep" else ""
    # Every reader of texts knows the first pair of marks, and none knows those of one model.
    return Apart(answer, kept, "") if answer.strip() else Apart(f"{MARKS[0][0]}\n{kept}", None, "")


def answer_of(text: str, marks: Marks | None = None) -> str:
    """Returns the answer in a text: what stands after its reasoning, empty where the reasoning has no end."""
    return parts_of(text, marks).answer or ""


def answer_length(text: str, unit: LengthUnit) -> int:
    """Measures the answer in a text in one of the units."""
    return text_length(answer_of(text), unit)


def has_reasoning(texts: pl.Expr) -> pl.Expr:
    """Returns whether texts have marks of reasoning, or look like it; few that look like it have none."""
    return texts.str.contains(_BEGIN) | texts.str.contains(_LONE, literal=True)


def answers_of(texts: pl.Series) -> pl.Series:
    """Returns the answer in each text; texts without reasoning as they are, null for a null."""
    return reasoned_answers_of(texts)[0]


def reasoned_answers_of(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Returns what `answers_of` does, and whether each text has reasoning (`Parts.reasoned`); false for a null."""
    frame = texts.alias("text").to_frame()
    marked = frame.select(has_reasoning(pl.col("text")).fill_null(value=False))["text"]
    reasoned = pl.repeat(value=False, n=len(texts), dtype=pl.Boolean, eager=True)
    if not marked.any():
        return texts, reasoned
    parts = [parts_of(text) for text in texts.filter(marked)]
    split = pl.Series([part.answer or "" for part in parts], dtype=pl.String)
    # Polars scatters in place, so never into the caller's column.
    others = pl.repeat(None, len(texts), dtype=pl.String, eager=True)
    answers = texts.zip_with(~marked, others.scatter(marked.arg_true(), split))
    return answers, reasoned.scatter(marked.arg_true(), pl.Series([part.reasoned for part in parts]))


def _joined(reasons: list[str]) -> str:
    return "\n\n".join(filter(None, reasons))


def _opened(text: str, pairs: tuple[Marks, ...]) -> Marks | None:
    begin = text.lstrip()
    return next((pair for pair in pairs if begin.startswith(pair[0])), None)


def _after_lone_end(text: str, pairs: tuple[Marks, ...]) -> Parts:
    """Splits a text whose opening mark was in the prompt; one that opens reasoning somewhere only speaks of marks."""
    for begin, end in pairs[: len(pairs) - len(MARKS)]:
        if end in text and begin not in text:
            reasoning, _, answer = text.partition(end)
            return Parts(reasoning.strip(), answer.lstrip())
    lone = _LONE_END.search(text) if _LONE in text else None
    if lone is None or MARKS[0][0] in text:
        return Parts(None, text)
    return Parts(text[: lone.start()].strip(), text[lone.end() :])


def _harmony(text: str) -> Parts:
    """Splits a text in the harmony format: the channel `final` is the answer, all others are reasoning."""
    parts = [(part["channel"], part["text"].strip()) for part in _HARMONY_PART.finditer(text)]
    reasons = [content for channel, content in parts if channel != "final"]
    finals = [content for channel, content in parts if channel == "final"]
    return Parts(_joined(reasons), finals[-1] if finals else None)
