"""What a run leaves behind: its directory, journal segments, samples as Parquet parts, and exports of them."""
