"""Noise schedules, grids and solvers of the probability-flow ODE: pure numerics, no network."""

if not __name__.startswith("sadaflow."):
    raise ImportError("import this package as 'sadaflow.solvers'")
