"""The tree's journal: events, snapshots, and what they tell of a run."""
