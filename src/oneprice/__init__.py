"""oneprice: one tape from many crypto markets, and what to do where the law of one price is broken on it."""

__version__ = "0.1.0"
