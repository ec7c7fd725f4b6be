"""The GPU benchmark: checks in eight minutes whether everything works, how fast it is, and what to fix.

Run as `python -m sadaflow.bench.gpu --out FOLDER`; see docs/performance.md.
"""
