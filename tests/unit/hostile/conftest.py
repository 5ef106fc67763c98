"""The scripted fusion of the tree's tests drives real journals and snapshots here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tree"))
