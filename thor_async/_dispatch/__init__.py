"""Decides which request may be sent, and when. Knows no HTTP."""
