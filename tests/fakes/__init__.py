"""Fakes at the boundary of the vendor libraries: C sources, their scripts and their builder."""
