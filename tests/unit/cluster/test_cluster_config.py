"""jobs/configs/cluster.yaml fits the machines of ray_cluster.yaml, and cluster/nodes.yaml describes them."""

import pytest
from recipe_files import ROOT, documents

from bohdi_ray.config_loading import load_config
from bohdi_ray.machines import read_nodes
from bohdi_ray.preflight import preflight


@pytest.fixture
def config():
    return load_config(ROOT / "jobs/configs/cluster.yaml", ())


def test_nodes_are_those_that_ray_up_can_make():
    types = documents(ROOT / "ray_cluster.yaml")[0]["available_node_types"]
    nodes = read_nodes(ROOT / "cluster/nodes.yaml")
    for name, kind in types.items():
        of_type = [node for node in nodes if node.name.split("-")[0] == name]
        assert len(of_type) == (1 if name == "head" else kind["max_workers"])
        for node in of_type:
            assert (node.num_cpus, node.num_gpus) == (kind["resources"]["CPU"], kind["resources"]["GPU"])
    assert len(nodes) == sum(kind["max_workers"] for kind in types.values()) + 1


def test_the_example_fits_on_them(config):
    assert preflight(config, read_nodes(ROOT / "cluster/nodes.yaml")).problems == []


def test_its_sources_are_of_different_families_and_its_run_lies_where_all_nodes_see_it(config):
    assert len({source.model.split("/")[0] for source in config.sources}) == len(config.sources) >= 3
    assert config.run_dir.startswith("s3://")
