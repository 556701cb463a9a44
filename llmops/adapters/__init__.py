"""Adapters: the outside world behind the ports. ``catalog`` is the only list of them."""
