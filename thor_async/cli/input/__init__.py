"""Reads and checks files of commands."""
