"""Sets of evaluated steps: published ones, and the ways in which one is given."""
