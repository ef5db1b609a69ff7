"""Writes the report of a batch as one HTML page."""
