"""Reads and checks the files that commands are given."""
