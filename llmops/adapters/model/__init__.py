"""Models on this machine: the cache of weights, LoRA tuning, generation and scoring."""
