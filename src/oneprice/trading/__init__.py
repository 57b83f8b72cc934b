"""Doing it: pre-trade checks, the router, the paper venue, live venues behind their guard, portfolio and ledger."""
