"""From a training row to token ids, and from rows to batches. Pure, given a tokenizer."""
