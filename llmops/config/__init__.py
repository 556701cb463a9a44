"""The config floor: YAML and overrides become one checked, plain, resolved config."""
