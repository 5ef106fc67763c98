"""A training row to token ids, rows to batches. Pure, given a tokenizer."""
