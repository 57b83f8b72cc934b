"""Pure numbers, compiled: reading wire bytes, order books, and what is computed from them. No I/O, no venue."""
