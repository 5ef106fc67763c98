"""`python -m bohdi_ray.cli` is `bohdi`."""

from bohdi_ray.cli import main

main()
