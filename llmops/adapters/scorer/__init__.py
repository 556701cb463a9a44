"""Scorers: who rates texts for safety."""
