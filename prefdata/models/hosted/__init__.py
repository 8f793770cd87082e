"""Runs language models on this machine: vLLM, transformers, and their workers."""
