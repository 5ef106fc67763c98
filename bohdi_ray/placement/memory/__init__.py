"""Memory that models need on GPUs and in main memory. Pure, except that it reads files."""
