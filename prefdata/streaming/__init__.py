"""Pairs of a table in bounded memory; `prefdata.flow.from_table` uses it wherever it applies."""
