"""Practice venues on loopback: a matching engine, a seeded market, and servers that speak the venues' own protocols."""
