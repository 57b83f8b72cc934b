"""Figures: each program measures ours and a named peer in one run and prints the ratio."""

import oneprice  # noqa: F401  (before Numba: it says where compiled code is kept, which Numba reads once)
