"""Measurements on a real GPU against counted truth: what the scores rest on and nobody could check before."""
