"""Reviewing a change: where two versions of a config come from, and how a difference reads."""
