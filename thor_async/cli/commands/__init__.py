"""The commands of `thor-async`, one module each."""
