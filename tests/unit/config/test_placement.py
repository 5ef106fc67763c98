"""Placement by tables: who sits where, and what exactly does not fit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bohdi_ray.config.loading import parse_config
from bohdi_ray.placement.capacity import Node
from bohdi_ray.placement.placement import bundles, place, placement_errors, resolve_gpus


def config_of(sources=((1, 1),), target=(1, 1), workers=1, per_worker=None, **training):
    """Models by (tensor_parallel_size, replicas)."""

    def model(name, split, replicas):
        engine = {"tensor_parallel_size": split}
        return {"name": name, "model": f"org/{name}", "engine": engine, "replicas": replicas}

    resources = {"resources_per_worker": per_worker} if per_worker is not None else {}
    return parse_config(
        {
            "run_dir": "x",
            "sources": [model(f"s{i}", *shape) for i, shape in enumerate(sources)],
            "target": model("t", *target),
            "training": {"num_workers": workers, **resources, **training},
        }
    )


def placed(config, nodes) -> dict[str, str]:
    layout = place(resolve_gpus(config, any(node.num_gpus for node in nodes)), nodes)
    assert not layout.misfits
    return {at.bundle.who: at.node for at in layout.placed}


def gpus_by_node(config, nodes) -> dict[str, float]:
    layout = place(resolve_gpus(config, True), nodes)
    assert not layout.misfits
    return {node.name: sum(bundle.num_gpus for bundle in layout.on(node.name)) for node in nodes}


def big(name="a", num_gpus=8, **more) -> Node:
    return Node(name, num_cpus=96, num_gpus=num_gpus, memory_gb=1000, **more)


@pytest.mark.parametrize(
    ("config", "nodes", "expected"),
    [
        # All of one machine.
        (config_of(sources=[(1, 1)] * 3, workers=4), [big()], {"a": 8}),
        # Trainer first, together on one node; engines get the other.
        (config_of(sources=[(2, 1), (1, 1)], workers=4), [big("a", 4), big("b", 4)], {"a": 4, "b": 4}),
        # A split engine needs its GPUs on one node: it takes the node with the larger hole.
        (config_of(sources=[(4, 1)], workers=2), [big("a", 4), big("b", 4)], {"a": 3, "b": 4}),
        # Replicas are placed one by one.
        (config_of(sources=[(2, 3)], workers=1), [big("a", 4), big("b", 4)], {"a": 4, "b": 4}),
    ],
)
def test_where_everything_sits(config, nodes, expected):
    assert gpus_by_node(config, nodes) == expected


def test_trainer_workers_are_seated_first_and_together():
    where = placed(config_of(sources=[(1, 1)] * 2, workers=3), [big("a", 3), big("b", 3)])
    workers = {node for who, node in where.items() if who.startswith("trainer")}
    assert len(workers) == 1
    assert {node for who, node in where.items() if "engine" in who} == {"a", "b"} - workers
    assert next(iter(where)).startswith("trainer worker 1 of 3")


def test_without_gpus_everything_sits_on_cpus():
    where = placed(config_of(), [Node("only", num_cpus=4)])
    assert set(where.values()) == {"only"}


def test_bundles_without_gpus_stay_away_from_nodes_with_gpus():
    where = placed(config_of(per_worker={"CPU": 1, "GPU": 0}), [big("gpu"), Node("cpu", num_cpus=8)])
    assert where["trainer worker 1 of 1"] == "cpu" and where["target t, engine 1 of 1"] == "gpu"


@pytest.mark.parametrize(
    ("explicit", "has_gpus", "expected"),
    [(None, True, 2), (None, False, 0), (2, True, 2), (0, True, 0), (2, False, 2)],
)
def test_gpus_left_out_mean_the_split_on_a_cluster_with_gpus_and_none_without(explicit, has_gpus, expected):
    config = config_of(target=(2, 1))
    resources = config.target.resources.model_copy(update={"num_gpus": explicit})
    config = config.model_copy(update={"target": config.target.model_copy(update={"resources": resources})})
    resolved = resolve_gpus(config, has_gpus)
    assert resolved.target.resources.num_gpus == expected
    assert resolved.training.resources_per_worker == ({"CPU": 1, "GPU": 1} if has_gpus else {"CPU": 1})


def test_a_named_gpu_count_of_workers_is_kept():
    assert resolve_gpus(config_of(per_worker={"CPU": 2, "GPU": 0}), True).training.resources_per_worker["GPU"] == 0


def test_what_does_not_fit_is_named_with_needed_and_available():
    config = config_of(sources=[(4, 1)], workers=2)
    errors = placement_errors(config, [big("a", 3), big("b", 3)])
    assert [error.field for error in errors] == ["sources.0.resources"]
    text = str(errors[0])
    assert "source s0, engine 1 of 1 needs 4 GPU + 1 CPU on one node" in text
    assert "a: 0 GPU" in text and "b: 3 GPU" in text
    assert "7 GPUs and there are 6" in text


def test_gpus_named_on_a_machine_without_any_are_refused():
    plain = config_of(per_worker={"CPU": 1, "GPU": 1})
    errors = placement_errors(plain, [Node("here", num_cpus=64)])
    assert [error.field for error in errors] == ["training.resources_per_worker"]


def test_each_field_is_reported_once_however_many_bundles_miss():
    errors = placement_errors(config_of(sources=[(1, 5)], workers=4), [big("a", 1)])
    assert [error.field for error in errors] == [
        "training.resources_per_worker",
        "target.resources",
        "sources.0.resources",
    ]


def test_too_few_cpus_or_too_little_memory_are_refused():
    assert placement_errors(config_of(), [Node("small", num_cpus=2)])
    hungry = parse_config(
        {
            "run_dir": "x",
            "sources": [{"name": "s", "model": "org/s", "resources": {"memory_gb": 10, "num_cpus": 0}}],
            "target": {"name": "t", "model": "org/t", "resources": {"memory_gb": 10, "num_cpus": 0}},
        }
    )
    assert not placement_errors(hungry, [Node("a", num_cpus=4, memory_gb=20)])
    assert not placement_errors(hungry, [Node("a", num_cpus=4)])
    (error,) = placement_errors(hungry, [Node("a", num_cpus=4, memory_gb=19)])
    assert "10 GB of memory" in str(error)


@pytest.mark.parametrize(
    ("share", "num_gpus", "fits"), [(0.5, 2, True), (0.6, 2, False), (0.3, 1, True), (0.4, 1, False)]
)
def test_shares_of_a_card_are_counted_card_by_card(share, num_gpus, fits):
    def model(name):
        return {"name": name, "model": f"org/{name}", "resources": {"num_gpus": share}}

    plain = {
        "run_dir": "x",
        "sources": [model("a"), model("b")],
        "target": model("t"),
        "training": {"resources_per_worker": {"CPU": 1, "GPU": 0}},
    }
    assert (not placement_errors(parse_config(plain), [big("a", num_gpus)])) == fits


def test_stages_of_a_pipeline_may_sit_on_different_nodes():
    plain = {
        "run_dir": "x",
        "sources": [
            {
                "name": "s",
                "model": "org/s",
                "engine": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
            }
        ],
        "target": {"name": "t", "model": "org/t", "resources": {"num_gpus": 0}},
        "training": {"resources_per_worker": {"CPU": 1, "GPU": 0}},
    }
    where = placed(parse_config(plain), [big("a", 2), big("b", 2)])
    stages = [node for who, node in where.items() if "stage" in who]
    assert sorted(stages) == ["a", "b"]


def with_labels(**resources):
    model = {"name": "s", "model": "org/s", "resources": resources}
    return parse_config(
        {
            "run_dir": "x",
            "sources": [model],
            "target": {"name": "t", "model": "org/t"},
            "training": {"label_selector": {"region": "!c"}, "resources_per_worker": {"CPU": 1, "fast_disk": 1}},
        }
    )


LABELLED = [
    big("a", 2, labels={"region": "a"}, resources={"fast_disk": 1}),
    big("b", 2, labels={"region": "b"}, resources={"h": 2}),
    big("c", 4, labels={"region": "c"}, resources={"fast_disk": 4}),
]


@pytest.mark.parametrize(
    ("resources", "node"),
    [
        ({"label_selector": {"region": "b"}}, "b"),
        ({"label_selector": {"region": "!in(a,b)"}}, "c"),
        ({"custom": {"h": 2}}, "b"),
        ({"custom": {"fast_disk": 4}, "num_gpus": 0.5}, "c"),
    ],
)
def test_labels_and_custom_resources_say_where(resources, node):
    where = placed(with_labels(**resources), LABELLED)
    assert where["source s, engine 1 of 1"] == node
    assert where["trainer worker 1 of 1"] == "a", "its own selector, and its custom resource"


def test_what_labels_or_custom_resources_leave_without_room_is_named_with_what_the_nodes_have():
    (error,) = placement_errors(with_labels(label_selector={"region": "d"}), LABELLED)
    assert error.field == "sources.0.resources"
    assert "needs 1 GPU + 1 CPU with region=d on one node" in str(error) and "b: region=b" in str(error)
    (error,) = placement_errors(with_labels(custom={"h": 3}), LABELLED)
    assert "needs 1 GPU + 1 CPU + 3 h on one node" in str(error) and "b: 2 GPU, 96 CPU, 1000 GB, 2 h" in str(error)


def test_the_least_of_a_pool_must_fit_and_what_it_may_grow_into_is_told():
    config = parse_config(
        {
            "run_dir": "x",
            "sources": [{"name": "s", "model": "org/s", "replicas": {"min": 2, "max": 4}}],
            "target": {"name": "t", "model": "org/t"},
        }
    )
    assert not placement_errors(config, [big(num_gpus=5)])
    layout = place(resolve_gpus(config, True), [big(num_gpus=5)])
    assert [at.bundle.who for at in layout.placed if "source" in at.bundle.who] == [
        f"source s, engine {i} of 2 to 4" for i in (1, 2, 3)
    ]
    assert [misfit.bundle.who for misfit in layout.short] == ["source s, engine 4 of 2 to 4"]
    assert "engine 2 of 2 to 4" in str(placement_errors(config, [big(num_gpus=3)])[0])


nodes_strategy = st.lists(st.tuples(st.integers(0, 16), st.integers(0, 8)), min_size=0, max_size=4).map(
    lambda shapes: [Node(f"n{i}", num_cpus=cpus, num_gpus=gpus) for i, (cpus, gpus) in enumerate(shapes)]
)
config_strategy = st.builds(
    config_of,
    sources=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3),
    target=st.tuples(st.integers(1, 4), st.integers(1, 2)),
    workers=st.integers(1, 4),
)


@settings(deadline=None)  # a busy machine may stop for longer than one example takes
@given(config=config_strategy, nodes=nodes_strategy)
def test_every_bundle_is_seated_or_missed_and_no_node_is_overfilled(config, nodes):
    resolved = resolve_gpus(config, any(node.num_gpus for node in nodes))
    layout = place(resolved, nodes)
    assert len(layout.placed) + len(layout.misfits) == len(bundles(resolved))
    for node in nodes:
        assert sum(bundle.num_gpus for bundle in layout.on(node.name)) <= node.num_gpus
        assert sum(bundle.num_cpus for bundle in layout.on(node.name)) <= node.num_cpus + 1e-6
    assert layout == place(resolved, nodes)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Node("a", 1, 1, gpu_name="H100"), 80),
        (Node("a", 1, 1, gpu_name="A100-40G"), 40),
        (Node("a", 1, 1, gpu_name="A100"), None),
        (Node("a", 1, 1, gpu_name="L40"), None),
        (Node("a", 1, 1, gpu_name="A100", gpu_memory_gb=80), 80),
        (Node("a", 1), None),
    ],
)
def test_the_memory_of_a_card_is_known_only_where_its_name_settles_it(node, expected):
    assert node.card_gb == expected
