"""Engines: which machines carry stage jobs out: `local` is this one, `ray` spreads models and shards on a cluster."""
