"""The safety policy: thresholds, violations, rates judged by their bounds. Pure."""
