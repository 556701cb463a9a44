"""Answers that rest on retrieved passages, and chains of several prompts. Pure."""
