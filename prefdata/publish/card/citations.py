"""`citations`: papers whose methods a recipe uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from prefdata.spec import JSON

__all__ = ["citations"]

_WPO = "WPO: Enhancing RLHF with Weighted Preference Optimization, arXiv:2406.11827"
_SPPO = "Self-Play Preference Optimization for Language Model Alignment, arXiv:2405.00675"
_GPM = "Beyond Bradley-Terry Models: A General Preference Model for Language Model Alignment, arXiv:2410.02197"
_DNO = "Direct Nash Optimization: Teaching Language Models to Self-Improve with General Preferences, arXiv:2404.03715"
_PAIRRM = "LLM-Blender: Ensembling Large Language Models with Pairwise Ranking and Generative Fusion, arXiv:2306.02561"
_FEEDBACK = "UltraFeedback: Boosting Language Models with Scaled AI Feedback, arXiv:2310.01377"
_ARMO = "Interpretable Preferences via Multi-Objective Reward Modeling and Mixture-of-Experts, arXiv:2406.12845"
_SKYWORK = "Skywork-Reward-V2: Scaling Preference Data Curation via Human-AI Synergy, arXiv:2507.01352"

_OF_KIND = {
    "wpo_hybrid_v1": (_WPO, _DNO),
    "wpo_hybrid_v2": (_WPO,),
    "sppo": (_SPPO,),
    "gpo": (_GPM,),
    "dno": (_DNO,),
    "snorkel_pairrm": (_PAIRRM,),
    "ultrafeedback_binarized": (_FEEDBACK,),
    "additive_judge": (_DNO,),
}
_OF_NAME = (
    (r".*ultrafeedback.*", _FEEDBACK),
    (r".*/PairRM(-hf)?", _PAIRRM),
    (r".*/GPM-.*", _GPM),
    (r".*/ArmoRM-.*", _ARMO),
    (r".*/Skywork-Reward-V2-.*", _SKYWORK),
)


def citations(recipe: Mapping[str, JSON]) -> list[str]:
    """Lists title and arXiv number of the papers behind a recipe's rule, scorer and inputs, in flow order."""
    parts = [recipe.get(name) for name in ("prompts", "candidates", "backfill", "scores", "pairs")]
    titles: dict[str, None] = {}
    for kind, names in (pair for part in parts for pair in _kinds(part)):
        titles |= dict.fromkeys(_OF_KIND.get(kind, ()))
        for name in names:
            titles |= {title: None for pattern, title in _OF_NAME if re.fullmatch(pattern, name, re.IGNORECASE)}
    return list(titles)


def _kinds(value: JSON) -> Iterator[tuple[str, list[str]]]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _kinds(item)
    if isinstance(value, Mapping):
        names = [item for key in ("dataset", "model") if isinstance(item := value.get(key), str)]
        yield str(value.get("kind")), names
        for item in value.values():
            yield from _kinds(item)
