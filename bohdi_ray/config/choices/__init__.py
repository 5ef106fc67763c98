"""What one choice implies for other settings, and which it refuses: one module per choice."""
