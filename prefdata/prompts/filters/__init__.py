"""Filters of prompts: one file each, each a counted drop with a reason of its own.

::

    from prefdata.prompts.filters import Length

    for record in Length(at_most=4000).filter(prompts, context):
        ...  # each Prompt that goes on, or the Drop that says why one doesn't
"""

from __future__ import annotations

from prefdata.prompts.filters.decontaminate import ALPACA_EVAL, MT_BENCH, TRUTHFUL_QA, Decontaminate, EvalSet
from prefdata.prompts.filters.exact import ExactDuplicates
from prefdata.prompts.filters.language import Language
from prefdata.prompts.filters.length import Length
from prefdata.prompts.filters.near import NearDuplicates
from prefdata.prompts.filters.python import PythonFilter

__all__ = [
    "ALPACA_EVAL",
    "MT_BENCH",
    "TRUTHFUL_QA",
    "Decontaminate",
    "EvalSet",
    "ExactDuplicates",
    "Language",
    "Length",
    "NearDuplicates",
    "PythonFilter",
]
