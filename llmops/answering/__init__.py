"""Asking a model as it was tuned: prompt, policy, answer. Knows no route and no log."""
