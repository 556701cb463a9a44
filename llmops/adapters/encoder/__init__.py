"""Adapters of the port ``Encoder``: texts to vectors."""
