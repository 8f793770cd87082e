"""Combines the scores of several scorers."""
