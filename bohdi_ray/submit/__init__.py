"""Jobs on a cluster: their packages, and Ray's job server."""
