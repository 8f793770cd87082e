"""Pairs of a table in bounded memory; `prefdata.table_pairs` uses it wherever it applies."""
