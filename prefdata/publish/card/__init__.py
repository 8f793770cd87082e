"""The card of a dataset: text, marks, merging, lint, licence, terms, citations, statistics."""
