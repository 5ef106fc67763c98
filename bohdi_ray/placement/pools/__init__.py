"""The pools of engines at run time: placement groups, start, replacement, scaling, time sharing."""
