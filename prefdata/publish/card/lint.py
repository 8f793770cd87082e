"""`lint_card`: finds what the Hub would refuse or misread in a card's header, without the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date

from prefdata.publish.card.terms import LICENSE_IDS
from prefdata.publish.card.text import card_header
from prefdata.spec import JSON

__all__ = ["lint_card", "lint_header"]

_TWO_LETTERS = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj
kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv
ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th
ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_LANGUAGES = frozenset(_TWO_LETTERS.split())
_SPECIAL = ("code", "multilingual")
_SIZES = """
unknown n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T
"""
_TASKS = """
any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
document-question-answering feature-extraction fill-mask graph-ml image-classification image-feature-extraction
image-segmentation image-text-to-image image-text-to-text image-text-to-video image-to-3d image-to-image image-to-text
image-to-video keypoint-detection mask-generation multiple-choice object-detection other question-answering
reinforcement-learning robotics sentence-similarity summarization table-question-answering table-to-text
tabular-classification tabular-regression tabular-to-text text-classification text-generation text-ranking
text-retrieval text-to-3d text-to-audio text-to-image text-to-speech text-to-video text2text-generation
time-series-forecasting token-classification translation unconditional-image-generation video-classification
video-text-to-text video-to-video visual-document-retrieval visual-question-answering voice-activity-detection
zero-shot-classification zero-shot-image-classification zero-shot-object-detection
"""
_CONFIG_NAME = re.compile(r"[^<>:/\\|?*\x00-\x1f]+")
_SPLIT = re.compile(r"\w+(\.\w+)*")


def lint_card(card: str) -> list[str]:
    """Lists the problems of a card's header, a line each; none for a valid one."""
    header = card_header(card)
    return lint_header(header) if isinstance(header, dict) else ["it is not a YAML mapping between two lines of ---"]


def lint_header(header: Mapping[str, JSON]) -> list[str]:
    """Lists the problems of a header that is already parsed."""
    problems = _licence(header)
    problems += _each(header, "language", _is_language, "an ISO 639 code")
    problems += _each(header, "size_categories", set(_SIZES.split()).__contains__, "a size category of the Hub")
    problems += _each(header, "task_categories", set(_TASKS.split()).__contains__, "a task of the Hub")
    problems += _each(header, "tags", lambda tag: bool(tag.strip()), "a tag")
    title = header.get("pretty_name")
    # The Hub takes a date, as YAML reads 2024-01-01, for a text.
    if title is not None and (not isinstance(title, str | date) or not str(title).strip()):
        problems.append(f"pretty_name: {title!r} is not a text")
    return problems + _configs(header)


def _licence(header: Mapping[str, JSON]) -> list[str]:
    value = header.get("license")
    if value is None:
        return []
    names = value if isinstance(value, list) else [value]
    problems = [
        f"license: {name!r} is not a licence id of the Hub"
        for name in names
        if not isinstance(name, str) or name not in LICENSE_IDS
    ]
    if "other" in names:
        problems += [
            f"{key}: required with `license: other`"
            for key in ("license_name", "license_link")
            if not isinstance(header.get(key), str) or not header[key].strip()
        ]
    return problems


def _is_language(code: str) -> bool:
    return code in _LANGUAGES or code in _SPECIAL or re.fullmatch(r"[a-z]{3}", code) is not None


def _each(header: Mapping[str, JSON], key: str, valid: Callable[[str], bool], expected: str) -> list[str]:
    value = header.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        value = [value] if key == "language" else None
    if value is None:
        return [f"{key}: {header[key]!r} is not a list"]
    return [f"{key}: {item!r} is not {expected}" for item in value if not isinstance(item, str) or not valid(item)]


def _configs(header: Mapping[str, JSON]) -> list[str]:
    configs = header.get("configs")
    if configs is None:
        return []
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        return ["configs: not a list of mappings"]
    names = [config.get("config_name") for config in configs]
    problems = [
        f"configs: {name!r} is not a valid name of a configuration"
        for name in names
        if not isinstance(name, str) or not _CONFIG_NAME.fullmatch(name)
    ]
    problems += [f"configs: {name!r} occurs twice" for name in {str(n) for n in names if names.count(n) > 1}]
    if sum(bool(config.get("default")) for config in configs) > 1:
        problems.append("configs: more than one is the default")
    for config in configs:
        files = config.get("data_files")
        for item in files if isinstance(files, list) else []:
            split = item.get("split") if isinstance(item, dict) else None
            if not isinstance(split, str) or not _SPLIT.fullmatch(split):
                problems.append(f"configs: {split!r} is not a valid name of a split")
    info = header.get("dataset_info")
    described = (
        [item.get("config_name", "default") for item in info if isinstance(item, dict)]
        if isinstance(info, list)
        else []
    )
    problems += [f"dataset_info: there is no configuration {name!r}" for name in described if name not in names]
    return problems
