"""A plan and tickets for the tests of this folder."""

import pytest

from bohdi_ray.config import FusionConfig
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.records import Ticket, ticket_id

SOURCES = ("alpha", "beta", "gamma")


@pytest.fixture
def make_config():
    def make(sources=SOURCES, **sections) -> FusionConfig:
        models = [{"name": name, "model": f"/models/{name}"} for name in sources]
        target = {"name": "student", "model": "/models/student"}
        return FusionConfig.model_validate({"run_dir": "/run", "sources": models, "target": target, **sections})

    return make


@pytest.fixture
def make_plan(make_config):
    def make(**sections) -> HarvestPlan:
        return HarvestPlan.from_config(make_config(**sections))

    return make


@pytest.fixture
def make_ticket():
    def make(index: int = 0, path=("Science", "Physics", "Optics"), weights_version: int = 0) -> Ticket:
        return Ticket(ticket_id(0, 0, index), 0, 0, index, path, weights_version)

    return make
