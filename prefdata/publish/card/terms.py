"""Facts about licences: the Hub's ids, the terms of each, and the licences of known models and datasets.

The terms are summaries of the publishers' own pages for a reader, not legal advice. A recipe
adds or corrects entries with `publish.licenses`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["KNOWN_INPUTS", "LICENSE_IDS", "TERMS", "Terms", "known_license"]

_IDS = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
open-mdw openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
grok2-community gemma unknown other
"""
LICENSE_IDS = frozenset(_IDS.split())
"""Values of `license` that the Hub accepts, by its documentation."""


@dataclass(frozen=True)
class Terms:
    """Terms of a licence for a dataset that is made with something under it."""

    license: str
    """The Hub's id, or `other`."""
    name: str
    """Name of the licence; for `other` also the card's `license_name`."""
    strictness: int
    """0 permissive, 1 attribution, 2 share-alike, 3 limits what may be trained, 4 non-commercial, 5 no derivatives."""
    asks: str
    """What the licence asks, in one sentence."""
    link: str = ""
    """Address of the terms."""


def _llama(version: str, asks: str) -> Terms:
    return Terms(
        f"llama{version}",
        f"Llama {version} Community License",
        3,
        asks,
        f"https://llama.meta.com/llama{version.replace('.', '_')}/license/",
    )


_ANY_LLAMA = (
    "models trained on its outputs must have 'Llama' at the beginning of their name, show 'Built with Llama' and keep "
    "its use policy"
)
TERMS = {
    terms.license if terms.license != "other" else terms.name: terms
    for terms in (
        Terms("cc0-1.0", "Creative Commons Zero 1.0", 0, "nothing"),
        Terms("mit", "MIT", 0, "keep the notice"),
        Terms("bsd-3-clause", "BSD 3-clause", 0, "keep the notice"),
        Terms("apache-2.0", "Apache 2.0", 0, "keep the notice and state changes"),
        Terms("odc-by", "Open Data Commons Attribution", 1, "name the source"),
        Terms("cc-by-4.0", "Creative Commons Attribution 4.0", 1, "name the source"),
        Terms("odbl", "Open Database License", 2, "name the source and share alike"),
        Terms("cc-by-sa-3.0", "Creative Commons Attribution Share Alike 3.0", 2, "name the source and share alike"),
        Terms("cc-by-sa-4.0", "Creative Commons Attribution Share Alike 4.0", 2, "name the source and share alike"),
        _llama("2", "its outputs must not improve other language models than Llama 2 and its derivatives"),
        _llama(
            "3", f"its outputs must not improve other language models than Llama 3 and its derivatives; {_ANY_LLAMA}"
        ),
        _llama("3.1", _ANY_LLAMA),
        _llama("3.2", _ANY_LLAMA),
        _llama("3.3", _ANY_LLAMA),
        Terms(
            "gemma",
            "Gemma Terms of Use",
            3,
            "models trained on its outputs fall under its terms and its prohibited uses",
            "https://ai.google.dev/gemma/terms",
        ),
        Terms(
            "other",
            "openai-terms-of-use",
            3,
            "its outputs must not be used to develop models that compete with OpenAI",
            "https://openai.com/policies/terms-of-use/",
        ),
        Terms(
            "other",
            "anthropic-terms",
            3,
            "its outputs must not be used to train models that compete with Anthropic",
            "https://www.anthropic.com/legal/commercial-terms",
        ),
        Terms(
            "other",
            "gemini-api-terms",
            3,
            "its outputs must not be used to develop models that compete with Google's",
            "https://ai.google.dev/gemini-api/terms",
        ),
        Terms("cc-by-nc-4.0", "Creative Commons Attribution Non Commercial 4.0", 4, "no commercial use"),
        Terms("cc-by-nc-sa-4.0", "CC Attribution Non Commercial Share Alike 4.0", 4, "no commercial use; share alike"),
        Terms(
            "other",
            "zoom-software-license",
            4,
            "no commercial use",
            "https://github.com/wzhouad/WPO/blob/main/LICENSE",
        ),
        Terms("cc-by-nd-4.0", "Creative Commons Attribution No Derivatives 4.0", 5, "nothing derived may be shared"),
        Terms(
            "cc-by-nc-nd-4.0", "CC Attribution Non Commercial No Derivatives 4.0", 5, "nothing derived may be shared"
        ),
    )
}
"""Licence id, or the name of terms that have none → the terms."""

KNOWN_INPUTS = (
    # Datasets, by their cards.
    (r"HuggingFaceH4/ultrafeedback_binarized|openbmb/UltraFeedback", "mit"),
    (r"argilla/ultrafeedback-binarized-preferences-cleaned", "mit"),
    (r"snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset", "apache-2.0"),
    (r"wzhouad/(llama3|zephyr|gemma-2)-ultrafeedback-hybrid(-v2)?", "zoom-software-license"),
    (r"prefdata:sample", "apache-2.0"),
    # Models that answer prompts.
    (r"(meta-llama/)?Meta-Llama-3-\d+B(-Instruct)?", "llama3"),
    (r"meta-llama/(Meta-)?Llama-3\.1-\d+B(-Instruct)?", "llama3.1"),
    (r"meta-llama/Llama-3\.2-\d+B(-Instruct)?", "llama3.2"),
    (r"meta-llama/Llama-3\.3-\d+B-Instruct", "llama3.3"),
    (r"meta-llama/Llama-2-\d+b(-chat)?(-hf)?", "llama2"),
    (r"mistralai/Mistral-7B(-Instruct)?-v0\.[123]|mistralai/Mixtral-8x7B(-Instruct)?-v0\.1", "apache-2.0"),
    (r"google/gemma-[123]-\d+b(-it|-pt)?|google/gemma-\d+b(-it)?", "gemma"),
    (r"Qwen/Qwen3-.*|Qwen/Qwen2\.5-(0\.5|1\.5|7|14|32)B(-Instruct)?", "apache-2.0"),
    (r"(HuggingFaceTB/)?SmolLM2-.*|embedded:smollm2-135m-instruct", "apache-2.0"),
    (r"HuggingFaceH4/(zephyr-7b-beta|mistral-7b-sft-beta)", "mit"),
    (r"(openai/)?(gpt-(3\.5|4|5)|chatgpt-|o[134](-|$)).*", "openai-terms-of-use"),
    (r"(anthropic/)?claude-.*", "anthropic-terms"),
    (r"(google/)?gemini-.*", "gemini-api-terms"),
    # Models that score.
    (r"llm-blender/PairRM(-hf)?", "mit"),
    (r"RLHFlow/ArmoRM-Llama3-8B-v0\.1", "llama3"),
    (r"general-preference/GPM-Llama-3\.1-8B", "llama3.1"),
    (r"general-preference/GPM-Gemma-2B", "gemma"),
    (r"Skywork/Skywork-Reward-V2-Qwen3-.*", "apache-2.0"),
    (r"Skywork/Skywork-Reward-V2-Llama-3\.1-.*", "llama3.1"),
    (r"Skywork/Skywork-Reward-V2-Llama-3\.2-.*", "llama3.2"),
)
"""Pattern of the whole name of a model or dataset, letters of either case → licence id or name of terms."""


def known_license(name: str) -> str | None:
    """Returns the licence of a model or dataset of that name; None where it is not known."""
    return next((licence for pattern, licence in KNOWN_INPUTS if re.fullmatch(pattern, name, re.IGNORECASE)), None)
