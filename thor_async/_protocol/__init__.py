"""Turns commands into bytes and answers into values. Does no I/O."""
