"""bohdi_ray: several language models teach a smaller one, without any training data, on a Ray cluster."""

__version__ = "0.1.0"
