"""Console output of a running fusion."""
