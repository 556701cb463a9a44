"""Retrieval: which passages of a table fit a question."""
