"""Sends one request over aiohttp and returns its answer. Takes no decisions."""
