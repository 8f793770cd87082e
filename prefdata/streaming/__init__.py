"""Pairs of a Parquet table in bounded memory; `prefdata.table_pairs` uses it wherever it applies."""
