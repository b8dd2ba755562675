"""`python -m bench FAMILY`: measure a family's promises against its peers.

A family is a module `bench/FAMILY.py` with `BENCHES`, a function per row number that takes the
`Context` and returns a `Row`, and `PEERS`, the names of its peers. For GPUs it has a module
`bench/FAMILY_cuda.py` with `BENCHES` of its own.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from bench.context import Context
from bench.report import Results, environment

FOLDER = Path(__file__).resolve().parent


def families() -> list[str]:
    """Modules here that export BENCHES; read as text, since importing one may be slow."""
    modules = [path for path in FOLDER.glob("*.py") if "\nBENCHES" in path.read_text()]
    return sorted(path.stem for path in modules if not path.stem.endswith("_cuda"))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("family", choices=families())
    parser.add_argument("--peers", help="comma-separated; default: all of the family's")
    parser.add_argument("--quick", action="store_true", help="few cases, short limits: under 3 minutes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--results", type=Path, default=FOLDER / "results", help="folder to write to")
    parser.add_argument("--rows", help="comma-separated row numbers; the others in RESULTS are kept")
    parser.add_argument("--threads", help="1, all, or both (default; quick: 1); one thread is what counts")
    parser.add_argument("--cases", help="comma-separated; only these cases of the rows that have cases")
    options = parser.parse_args(argv)
    options.threads = options.threads or ("1" if options.quick else "1,all")
    return options


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    suffix = "_cuda" if options.device == "cuda" else ""
    module = importlib.import_module(f"bench.{options.family}{suffix}")
    wanted = [int(number) for number in options.rows.split(",")] if options.rows else list(module.BENCHES)
    unknown = set(wanted) - set(module.BENCHES)
    if unknown:
        sys.exit(f"bench: no such row: {sorted(unknown)}; {options.family} has {sorted(module.BENCHES)}")
    peers = options.peers.split(",") if options.peers else list(getattr(module, "PEERS", ()))
    results = Results(options.family, options.device + ("_quick" if options.quick else ""), options.results)
    failed = False
    with Context(
        quick=options.quick,
        peer_names=tuple(peers),
        threads=tuple(None if t == "all" else int(t) for t in options.threads.split(",")),
        cases=tuple(options.cases.split(",")) if options.cases else (),
    ) as context:
        context.find_peers()
        for number in wanted:
            begin = time.perf_counter()
            print(f"\n== {options.family}, row {number}", flush=True)
            try:
                row = module.BENCHES[number](context)
            except Exception as error:  # one broken row must not cost the others
                print(f"bench: row {number} failed: {type(error).__name__}: {error}", flush=True)
                failed = True
                continue
            row.seconds = time.perf_counter() - begin
            row.environment = environment(context.versions, **context.facts)
            results.write(row)
    results.plot()
    print(f"\nwritten: {results.folder / results.name}.json, .md, .png")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
