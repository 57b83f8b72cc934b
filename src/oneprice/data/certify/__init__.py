"""What a session is worth: measures, quality gates, the gap ledger and hashes that anyone can derive again."""
