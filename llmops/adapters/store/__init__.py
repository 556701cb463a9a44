"""Stores: where artifacts lie."""
