"""Models from folders into memory, and weights versions back into folders."""
