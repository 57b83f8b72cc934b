"""Figures: each program measures ours and a named peer in one run and prints the ratio."""
