"""Loading models from folders, and writing weights versions back into folders."""
