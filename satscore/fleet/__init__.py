"""The ranks of a job together: each tells its node's leader, leaders tell the collector beside rank 0."""
