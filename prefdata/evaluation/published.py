"""Numbers that the authors of the two recipes' models published."""

from __future__ import annotations

from prefdata.spec import JSON

__all__ = ["OPEN_LLM_V1", "PUBLISHED"]

OPEN_LLM_V1 = ("arc_challenge", "truthfulqa_mc2", "winogrande", "gsm8k", "hellaswag", "mmlu")
"""The tasks of the first Open LLM Leaderboard, in the order of the model card of GPO."""

# Sources: the model cards, and for AlpacaEval weighted_alpaca_eval_gpt4_turbo_leaderboard.csv of
# github.com/tatsu-lab/alpaca_eval, whose digits go beyond the cards'.
PUBLISHED: dict[str, dict[str, JSON]] = {
    "wzhouad/Llama3-Instruct-8B-WPO-HB-v2": {
        "alpaca_eval": {
            "length_controlled_winrate": 53.37264268894168,
            "lc_standard_error": 0.7120573420060313,
            "win_rate": 57.33198613024009,
            "standard_error": 1.4953200715726744,
            "avg_length": 2472,
            "n_total": 805,
        }
    },
    "general-preference/GPO-Llama-3-8B-Instruct-GPM-2B": {
        "alpaca_eval": {
            "length_controlled_winrate": 38.4334071653788,
            "lc_standard_error": 0.7965862068931436,
            "win_rate": 48.87200127423316,
            "standard_error": 1.4567650924969209,
            "avg_length": 2613,
            "n_total": 805,
        },
        # With lm-evaluation-harness v0.4.1, in per cent.
        "open_llm_v1": {
            "tasks": {
                "arc_challenge": {"value": 61.43},
                "truthfulqa_mc2": {"value": 53.54},
                "winogrande": {"value": 75.22},
                "gsm8k": {"value": 76.12},
                "hellaswag": {"value": 78.06},
                "mmlu": {"value": 65.65},
            },
            "average": 68.34,
        },
    },
}
"""Model → suite → numbers."""
