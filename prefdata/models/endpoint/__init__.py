"""Asks language models elsewhere: chat endpoints, batches, prices, budgets, spending."""
