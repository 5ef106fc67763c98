"""What is special about each family of models, in one table; found by a model's config.json."""

from bohdi_ray.engines.families.family import Family, Thinking
from bohdi_ray.engines.families.lookup import family_of
from bohdi_ray.engines.families.table import FAMILIES
from bohdi_ray.engines.families.unproved import family_errors

__all__ = ["FAMILIES", "Family", "Thinking", "family_errors", "family_of"]
