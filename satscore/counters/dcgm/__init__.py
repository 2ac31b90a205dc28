"""Counters by the vendor's DCGM: a host engine, read by a process of our own that may hang or crash."""
