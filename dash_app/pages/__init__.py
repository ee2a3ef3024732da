"""One page a file: a path, a layout, its callbacks."""
