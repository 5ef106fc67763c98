"""What the driver does beside the main loop in fusion.py: starting, one round's harvest, book-keeping, the end."""
