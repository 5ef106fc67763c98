"""What is harvested: samples as Parquet parts, rows by id, export."""
