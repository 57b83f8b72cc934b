"""Doing it: checks before an order, hedging after it, paper and live venues behind one shape, portfolio and ledger."""
