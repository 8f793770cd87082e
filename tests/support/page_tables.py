"""Made-up datasets for the page."""

from __future__ import annotations

import json
from pathlib import Path

import prefdata

HOSTILE = (
    "<script>window.PWNED=1</script>",
    "<img src=x onerror='window.PWNED=1'>",
    "<svg/onload=window.PWNED=1>",
    "</script><script>window.PWNED=1</script>",
    "<!--<script>window.PWNED=1</script>",
    "\"><iframe srcdoc='<script>parent.PWNED=1</script>'>",
    "javascript:window.PWNED=1",
    '<a href="javascript:window.PWNED=1">x</a>',
    "{{constructor.constructor('window.PWNED=1')()}}",
    "${window.PWNED=1}",
    "<style>*{display:none}</style>",
    "<details open ontoggle=window.PWNED=1>",
    "\u2028\u2029\u202e<b>x",
    "__proto__",
)
WORDS = (
    *("river", "stone", "light", "answer", "because", "therefore", "number", "simple", "careful", "often"),
    *("seldom", "bright", "under", "over", "city", "garden"),
)


def sentence(seed: int, length: int) -> str:
    return " ".join(WORDS[(seed * 31 + n * n * 7 + n) % len(WORDS)] for n in range(length))


def answers(prompts: int, hostile: bool = False, shift: int = 0) -> list[dict]:
    """Three answers to each prompt; every tenth prompt has equal scores and gives no pair."""
    rows = []
    for n in range(prompts):
        bad = HOSTILE[n % len(HOSTILE)] if hostile else ""
        asked = f"{bad} Question {n}: {sentence(n, 12)}? “Why”, naïve 日本 {n}"
        for k, source in enumerate(("alpha", "beta", "gamma")):
            rows.append(
                {
                    "prompt": asked,
                    "response": f"{bad} {sentence(n * 3 + k, 20 + (n * (k + 3)) % 90)}. End {n}-{k}.",
                    "score": 5.0 if n % 10 == 0 else ((n * 7 + k * 3 + shift * n) % 19) / 2,
                    "source": f"{source} {bad}".strip(),
                    "index": 0,
                }
            )
    return rows


def paired(folder: Path, prompts: int, rule: str = "wpo_hybrid_v2", name: str = "made", **options: object) -> Path:
    """A dataset of prefdata with its answers."""
    table = folder / f"{name}.jsonl"
    lines = (
        json.dumps(row) for row in answers(prompts, bool(options.pop("hostile", False)), int(options.pop("shift", 0)))
    )
    table.write_text("\n".join(lines) + "\n")
    prefdata.pair(table, rule, folder / name, with_candidates=True, test_size=min(50, prompts // 10), **options)
    return folder / name
