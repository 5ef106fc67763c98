"""A fusion as a Ray job:

ray job submit --working-dir . -- python jobs/fuse.py --config jobs/configs/quickstart.yaml stop.rounds=3

Takes what `bohdi fuse` takes, the configuration also without `--config`; docs/jobs.md says where the run is written.
"""

import argparse

from bohdi_ray.cli import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    known, others = parser.parse_known_args()
    main(["fuse", *([known.config] if known.config else []), *others], prog_name="jobs/fuse.py")
