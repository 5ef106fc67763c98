"""What the driver asks of the target's engines beside harvests: rehearsal and evaluations."""
