"""Where everything of a run would sit on a cluster, how much memory it takes, or what does not fit. Starts nothing."""
