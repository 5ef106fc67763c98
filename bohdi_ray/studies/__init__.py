"""Studies shipped with the product: the quickstart's models, the simulation, the miniature."""
