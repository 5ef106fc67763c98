"""ray_cluster.yaml as Ray reads it: its own check, and the preparation of `ray up` against a server that plays AWS."""

import copy
from pathlib import Path

import boto3
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


def prepared():
    config = prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))
    validate_config(config)
    return config


def test_ray_fills_in_and_takes_the_recipe():
    config = prepared()
    assert config["max_workers"] == sum(kind["max_workers"] for kind in config["available_node_types"].values())
    # Ray's own defaults bind the dashboard to all interfaces; the recipe's commands must be the ones that stand.
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
    assert "0.0.0.0" not in str(config)


def test_ray_up_asks_aws_for_machines_that_it_can_give(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray makes a key pair and stores it in ~/.ssh
    (tmp_path / ".ssh").mkdir()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    recipe = prepared()
    with mock_aws():
        config = bootstrap_aws(copy.deepcopy(recipe))
        ec2 = boto3.client("ec2", region_name=recipe["provider"]["region"])
        image = ec2.describe_images()["Images"][0]["ImageId"]  # one that this AWS has
        boto3.client("iam").create_instance_profile(InstanceProfileName="bohdi-node")
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for name, kind in config["available_node_types"].items():
            tags = {"ray-user-node-type": name, "ray-node-kind": "worker"}
            provider.create_node({**kind["node_config"], "ImageId": image}, tags, 1)
        machines = [m for r in ec2.describe_instances()["Reservations"] for m in r["Instances"]]
    assert {machine["InstanceType"]: machine.get("InstanceLifecycle") for machine in machines} == {
        "m7i.2xlarge": None,
        "p5.48xlarge": None,
        "g6e.12xlarge": "spot",
    }
    for name, kind in config["available_node_types"].items():
        wanted, got = recipe["available_node_types"][name]["node_config"], kind["node_config"]
        assert wanted.items() <= got.items()  # nothing of ours was replaced by a default
        assert got["SubnetIds"] and got["SecurityGroupIds"]
