"""Who sits where: nodes, cards, memory, pools of engines."""
