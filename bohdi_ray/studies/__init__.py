"""Made with the product, not part of it: the quickstart's models, the simulation, the miniature."""
