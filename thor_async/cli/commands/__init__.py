"""The commands of `thor-async`: each has a module of its name with a function `run`."""
