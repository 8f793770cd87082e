"""Language models on this machine: vLLM, transformers, and the workers that run them."""
