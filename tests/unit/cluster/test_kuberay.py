"""The Kubernetes recipes against KubeRay's published schemas and the rules that its operator checks beside them."""

import copy

import jsonschema
import pytest
from recipe_files import KUBERAY, crd_schemas, documents, merge_patched, pins, product_version

CLUSTER = KUBERAY / "cluster/raycluster.yaml"
OVERLAY = KUBERAY / "cluster-fault-tolerant"


@pytest.fixture(scope="module")
def schemas():
    return crd_schemas()


@pytest.fixture
def cluster():
    return documents(CLUSTER)[0]


@pytest.fixture
def job():
    return documents(KUBERAY / "rayjob.yaml")[0]


@pytest.fixture
def fault_tolerant(cluster):
    kustomization = documents(OVERLAY / "kustomization.yaml")[0]
    assert "../cluster" in kustomization["resources"]
    for patch in kustomization["patches"]:
        (change,) = documents(OVERLAY / patch["path"])
        assert (change["kind"], change["metadata"]["name"]) == (cluster["kind"], cluster["metadata"]["name"])
        cluster = merge_patched(cluster, change)
    return cluster


def errors(schemas, manifest):
    validator = jsonschema.Draft7Validator(schemas[manifest["kind"]])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def specs(cluster, job, fault_tolerant):
    return [cluster["spec"], job["spec"]["rayClusterSpec"], fault_tolerant["spec"]]


def pods(spec):
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def test_every_manifest_is_what_the_operator_takes(schemas, cluster, job, fault_tolerant):
    for manifest in (cluster, job, fault_tolerant):
        assert errors(schemas, manifest) == []
    assert fault_tolerant["spec"]["gcsFaultToleranceOptions"]["redisAddress"]


def test_the_schemas_find_what_is_wrong(schemas, cluster):
    wrong = copy.deepcopy(cluster)
    wrong["spec"]["authOptions"]["mode"] = "tokens"
    wrong["spec"]["workerGroupSpecs"][0]["minReplica"] = 0
    wrong["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "a"
    assert len(errors(schemas, wrong)) == 3


def test_no_cluster_is_without_a_token_of_its_own(cluster, job, fault_tolerant):
    for spec in specs(cluster, job, fault_tolerant):
        assert spec["authOptions"] == {"mode": "token"}
        assert spec["rayVersion"] == pins("gpu")["ray"]  # the operator refuses tokens without it
        # rayStartParams must not undo it, and labels and resources have fields of their own.
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert group["rayStartParams"] == {}


def test_gpus_come_from_zero_and_the_head_has_none(cluster, job, fault_tolerant):
    for spec in specs(cluster, job, fault_tolerant):
        assert spec["enableInTreeAutoscaling"] is True
        head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
        assert not any("gpu" in name for name in head["resources"]["limits"])
        groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
        assert set(groups) == {"trainer", "sources"}
        for name, group in groups.items():
            assert (group["replicas"], group["minReplicas"]) == (0, 0) and group["maxReplicas"] >= 1
            assert group["labels"] == {"bohdi-group": name}
            resources = group["template"]["spec"]["containers"][0]["resources"]
            # Ray is told the limits; a card is not to be shared, and what is asked for is what is had.
            assert resources["limits"] == resources["requests"] and int(resources["limits"]["nvidia.com/gpu"]) > 0


def test_pods_have_no_rights_they_do_not_need(cluster, job, fault_tolerant):
    for spec in specs(cluster, job, fault_tolerant):
        for pod in pods(spec):
            assert pod["securityContext"]["runAsNonRoot"] is True
            # The autoscaler's second version wants pods that are not started again by themselves.
            assert "restartPolicy" not in pod
            for container in pod["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_every_pod_has_one_image_of_this_version_and_sees_the_runs(cluster, job, fault_tolerant):
    images = set()
    for spec in specs(cluster, job, fault_tolerant):
        for pod in pods(spec):
            (container,) = pod["containers"]
            images.add(container["image"])
            assert {"name": "runs", "mountPath": "/runs"} in container["volumeMounts"]
            assert set(v["name"] for v in pod["volumes"]) == {m["name"] for m in container["volumeMounts"]}
    (image,) = images
    assert image.endswith(f"/bohdi_ray:{product_version()}")
    claims = [d["metadata"]["name"] for d in documents(KUBERAY / "runs.yaml")]
    assert claims == ["bohdi-runs"]


def test_keys_come_from_secrets(cluster, job, fault_tolerant):
    redis = next(d for d in documents(OVERLAY / "redis.yaml") if d["kind"] == "Deployment")
    for pod in [redis["spec"]["template"]["spec"], *(p for s in specs(cluster, job, fault_tolerant) for p in pods(s))]:
        for variable in pod["containers"][0]["env"]:
            if any(word in variable["name"] for word in ("TOKEN", "KEY", "PASSWORD", "SECRET")):
                assert "value" not in variable and "secretKeyRef" in variable["valueFrom"]
    password = fault_tolerant_password(fault_tolerant)
    assert {"secretKeyRef": password} == redis["spec"]["template"]["spec"]["containers"][0]["env"][0]["valueFrom"]


def fault_tolerant_password(manifest):
    return manifest["spec"]["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]


def test_redis_is_reached_where_the_cluster_looks_for_it(schemas, fault_tolerant):
    by_kind = {d["kind"]: d for d in documents(OVERLAY / "redis.yaml")}
    port = by_kind["Service"]["spec"]["ports"][0]["port"]
    address = fault_tolerant["spec"]["gcsFaultToleranceOptions"]["redisAddress"]
    assert address == f"{by_kind['Service']['metadata']['name']}:{port}"
    template = by_kind["Deployment"]["spec"]["template"]
    assert by_kind["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    pod_schema = schemas["RayCluster"]["properties"]["spec"]["properties"]["headGroupSpec"]["properties"]["template"]
    jsonschema.validate(template["spec"], pod_schema["properties"]["spec"])


def test_the_jobs_cluster_is_the_standing_one_and_the_configuration_beside_it(cluster, job):
    spec = job["spec"]["rayClusterSpec"]
    for pod in pods(spec):
        (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "fusion"]
        pod["containers"][0]["volumeMounts"].remove(mount)
        pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "fusion"]
        assert mount["mountPath"] == "/etc/bohdi"
    assert spec == cluster["spec"]
    assert job["spec"]["entrypoint"].split()[1:] == [
        "/opt/bohdi_ray/cluster/fuse_or_resume.py",
        "/etc/bohdi/fusion.yaml",
        "/runs/fusion",
    ]
    assert job["spec"]["shutdownAfterJobFinishes"] is True  # or its cards are paid for until somebody looks
