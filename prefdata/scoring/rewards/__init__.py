"""Scores with reward models and rankers, in worker processes."""
