"""Evaluates models: benchmarks of other packages, preferences that were held out, and what several models reach."""
