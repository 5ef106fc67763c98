"""Harvested data: samples as Parquet parts, rows by id, export."""
