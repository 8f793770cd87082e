"""Runs a filter over some prompts, and checks that each comes out once."""

from __future__ import annotations

from prefdata.records import Drop, Prompt, as_messages
from prefdata.spec import Context

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye now"},
]


def prompts(*cells):
    """Makes one prompt of each cell."""
    return [Prompt(f"p{place}", as_messages(cell), "x") for place, cell in enumerate(cells)]


def filtered(part, *cells, counts=None, **pins):
    """Filters the prompts of the cells; returns None for each that is kept, else reason and detail."""

    def counted(what, n):
        if counts is not None:
            counts[what] += n

    inputs = prompts(*cells)
    records = list(part.filter(inputs, Context(seed=0, pins=pins, counted=counted)))
    assert [record.prompt_id for record in records] == [prompt.prompt_id for prompt in inputs]
    assert all(record is prompt for record, prompt in zip(records, inputs, strict=True) if record == prompt)
    assert all(record.stage == "prompts" for record in records if isinstance(record, Drop))
    return [(record.reason, record.detail) if isinstance(record, Drop) else None for record in records]


def reasons(part, *cells, **more):
    """Filters like `filtered`, and returns the reasons only."""
    return [record and record[0] for record in filtered(part, *cells, **more)]
