"""Delivery of rows to the ranks: rounds, numbered steps, the queue, a Ray Dataset for each rank."""
