"""Finds out which charge runs, and whether it stopped."""
