"""Counter sources: each turns what a driver or simulator says into Readings, and nothing more."""
