"""DeepSpeed: its configuration, its compiled kernels, AdamW's moments."""
