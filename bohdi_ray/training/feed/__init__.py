"""Rows on their way to the ranks: rounds, numbered steps, the queue, a Ray Dataset for each rank."""
