"""A start that is refused after its run directory was made leaves nothing that blocks the next one."""

from dataclasses import replace

import pytest
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray.errors import ConfigError
from bohdi_ray.fusion import fuse
from bohdi_ray.run.run_dir import check_new

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]


def refusing(model):
    """Parts whose engine of `model` refuses its configuration, as vLLM does while others start."""
    parts = scripted_parts()

    def make_engine(config):
        make = parts.make_engine(config)

        def made(one, *args):
            if one.name == model:
                raise ConfigError(f"{model}.engine.extra", "x", "vLLM has no such argument", "Remove it.")
            return make(one, *args)

        return made

    return replace(parts, make_engine=make_engine)


@pytest.mark.parametrize("name", ["run", "run-{time}"])
def test_a_refusal_once_engines_start_leaves_no_run(tmp_path, name):
    with pytest.raises(ConfigError, match="no such argument"):
        fuse(scripted_config(str(tmp_path / "runs" / name)), parts=refusing("bob"))
    assert list(tmp_path.glob("runs/*")) == []
    check_new(tmp_path / "runs" / "run")
