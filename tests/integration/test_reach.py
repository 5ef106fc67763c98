"""A run directory that some node does not see is refused before anything is written there."""

import pytest
import ray

from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.shared_storage_check import check_reach, other_hosts

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]


def this_node() -> str:
    return ray.get_runtime_context().get_node_id()


def test_a_folder_that_all_nodes_see_passes_and_nothing_is_left_there(tmp_path):
    check_reach(str(tmp_path / "new" / "run"), {"10.0.0.2": this_node()})
    assert not (tmp_path / "new" / "run").exists()
    (tmp_path / "there").mkdir()
    check_reach(str(tmp_path / "there"), {"10.0.0.2": this_node()})
    assert list((tmp_path / "there").iterdir()) == []


def test_a_folder_that_a_node_does_not_see_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # of this process alone: to workers the same path is another folder
    with pytest.raises(ConfigError) as caught:
        check_reach("run", {"10.0.0.2": this_node()})
    assert caught.value.field == "run_dir" and "the node 10.0.0.2 does not see" in caught.value.rule
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_is_gone_stops_no_run(tmp_path):
    check_reach(str(tmp_path / "run"), {"10.0.0.2": "ab" * 28})


def test_every_other_host_is_asked_once():
    def node(name, address, alive=True):
        return {"NodeID": name, "NodeManagerAddress": address, "Alive": alive}

    listed = [node("a", "h1"), node("b", "h1"), node("c", "h2"), node("d", "h2"), node("e", "h3", alive=False)]
    assert other_hosts(listed, "a") == {"h2": "d"}
    check_reach("s3://bucket/run", {"h2": "d"})  # every node reaches an object store by itself, or says so
