"""Makes the folder a package, so that one running service can be a fixture of all its files."""
