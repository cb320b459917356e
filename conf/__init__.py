"""The configuration: Hydra's YAML tree beside this file, its schemas and their checks."""
