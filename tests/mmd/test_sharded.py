"""Slices shared by two ranks, and points sharded over them, against one process."""

import time

import pytest
import torch
import torch.distributed as dist

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo to let two processes talk"
)
if dist.is_available():
    from . import two_ranks

    NAMES = [*two_ranks.CHECKS]
else:
    NAMES = []


@pytest.fixture(scope="module")
def meeting(tmp_path_factory):
    """Two processes that run all checks, once; what they found."""
    folder = tmp_path_factory.mktemp("meeting")
    running = torch.multiprocessing.spawn(two_ranks.main, (str(folder),), nprocs=2, join=False)
    end = time.monotonic() + 240
    while not running.join(timeout=5):
        if time.monotonic() > end:
            for process in running.processes:
                process.kill()
            pytest.fail("the two processes wait for each other")
    return [torch.load(folder / f"found_{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_on_two_ranks(meeting, name):
    for rank, results in enumerate(meeting):
        assert results[name] is None, f"rank {rank}: {results[name]}"
