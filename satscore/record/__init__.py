"""The run directory: Arrow stream of readings, run.json, atomic files, recovery."""
