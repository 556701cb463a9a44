"""Adapters of the warehouse port: SQL stores that examples are read from."""
