"""Writes journals, progress, tables and messages."""
