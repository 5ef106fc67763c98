"""What a person sees on the console while a fusion runs."""
