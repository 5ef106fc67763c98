"""Jobs on a cluster: what they take along, and Ray's job server."""
