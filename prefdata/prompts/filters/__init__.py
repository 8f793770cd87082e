"""Filters prompts: each filter is one file, and each of its drops is counted under a reason of its own.

::

    from prefdata.prompts.filters import Length

    for record in Length(at_most=4000).filter(prompts, context):
        ...  # each Prompt that is kept, or a Drop with the reason why it is not
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
