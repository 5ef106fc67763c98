"""What people see of a run: metrics, console, summary."""
