"""Metrics of answers, intervals around them, and the decision that a gate takes on them. Pure."""
