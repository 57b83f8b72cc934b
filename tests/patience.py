"""How long tests wait for what should come."""

WITHIN_S = 600.0  # a bound on hanging, not on speed: machines differ tenfold, and one that compiles is slower still
