"""How each venue speaks: facts and two directions of pure functions. No I/O: bytes in, rows out, and back."""
