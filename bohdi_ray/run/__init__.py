"""The run directory: layout, lease, journal segments, retention, state, status."""
