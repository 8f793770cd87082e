"""Reward models and rankers, and their workers."""
