"""The program under launchers on one machine: slow tests, skipped where a launcher is missing."""
