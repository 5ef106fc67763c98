"""Chat templates, tokenizers, and reasoning in a model's text."""
