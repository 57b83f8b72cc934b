"""Streaming kernels: one compiled definition each, over columns, micro-batches and ticks (see `definition.py`)."""
