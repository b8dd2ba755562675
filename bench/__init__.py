"""Benchmarks against other packages: `python -m bench ot`.

Not part of the installed library. A family is one module of this folder that exports
`BENCHES` and `PEERS`; everything else here serves all families.
"""
