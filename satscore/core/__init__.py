"""The pure core: readings in, frozen values out; no clock, file, process, log or thread."""
