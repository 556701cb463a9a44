"""Registries: where models have names, versions and aliases."""
