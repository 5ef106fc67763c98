"""The tree's journal: events, snapshots, and the history of a run read from them."""
