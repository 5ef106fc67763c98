"""A fusion as a Ray job: ray job submit --working-dir . -- python jobs/fuse.py jobs/configs/paper.yaml stop.rounds=3"""

import sys

from bohdi_ray.cli import main

main(["fuse", *sys.argv[1:]])
