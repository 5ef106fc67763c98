"""One file per bandit policy; each implements `bohdi_ray.tree.bandit.Policy`."""
