"""A simulated GPU: physically consistent counters whose truth is known. Standard library only."""
