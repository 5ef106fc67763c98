"""The miniature: an invented world with ground truth, tiny models that know parts of it, and their fusion measured."""
