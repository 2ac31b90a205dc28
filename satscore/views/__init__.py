"""Views: each a function of the Summary; none computes a number."""
