"""jobs/configs/cluster.yaml fits the machines of ray_cluster.yaml, and cluster/nodes.yaml describes them."""

import pytest
from recipe_files import ROOT, documents

from bohdi_ray.config.loading import load_config
from bohdi_ray.placement.machines import read_nodes
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
            assert node.labels == kind["labels"]
            assert (node.num_cpus, node.num_gpus) == (kind["resources"]["CPU"], kind["resources"]["GPU"])
    assert len(nodes) == sum(kind["max_workers"] for kind in types.values()) + 1


def test_the_example_fits_on_them(config):
    assert preflight(config, read_nodes(ROOT / "cluster/nodes.yaml")).problems == []


def test_spot_nodes_have_sources_alone(config):
    """The labels of ray_cluster.yaml and KubeRay's groups: see test_ray_up.py and test_kuberay.py."""
    for model in (*config.sources, config.target):
        group = "trainer" if model is config.target else "sources"
        assert model.resources.label_selector == {"bohdi-group": group}
        assert model.replicas.min < model.replicas.max
    assert config.training.label_selector == {"bohdi-group": "trainer"}


def test_pools_as_large_as_they_may_become_fit_too():
    config = load_config(ROOT / "jobs/configs/cluster.yaml", ())
    largest = [f"sources.{i}.replicas={source.replicas.max}" for i, source in enumerate(config.sources)]
    grown = load_config(ROOT / "jobs/configs/cluster.yaml", (*largest, f"target.replicas={config.target.replicas.max}"))
    assert sum(source.replicas.min for source in grown.sources) > 2 * len(config.sources)
    assert preflight(grown, read_nodes(ROOT / "cluster/nodes.yaml")).problems == []


def test_its_sources_are_of_different_families_and_its_run_lies_where_all_nodes_see_it(config):
    assert len({source.model.split("/")[0] for source in config.sources}) == len(config.sources) >= 3
    assert config.run_dir.startswith("s3://")
