"""Grades or compares answers with language models."""
