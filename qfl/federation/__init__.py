"""How a run is executed: simulation, records, checkpoints, baselines, reports."""
