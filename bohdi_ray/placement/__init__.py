"""Placement: nodes, GPUs, memory, pools of engines."""
