"""What models take of cards and main memory. Pure, but for looks at files."""
