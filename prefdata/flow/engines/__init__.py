"""Engines: how the tasks of a stage are carried out and its shards written."""
