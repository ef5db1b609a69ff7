"""Emits events to listeners and to the log."""
