"""What a GPU says in eight minutes: whether everything works on it, how fast it is, and what to mend.

Run as `python -m sadaflow.bench.gpu --out FOLDER`; see docs/performance.md.
"""
