"""How large a difference must be to be seen: what planning and evaluation both say. Pure."""

from __future__ import annotations

POWER = 0.8  # the chance to see the smallest detectable difference


def standard_errors_needed(confidence: float, power: float = POWER) -> float:
    """Return how many standard errors off zero a difference must be to be seen that often.

    z_{1-a/2} + z_power, for a test at level a = 1 - ``confidence``.
    """
    from statistics import NormalDist

    normal = NormalDist()
    return normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)
