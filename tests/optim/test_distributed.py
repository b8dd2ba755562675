"""Distributed parameters on two ranks against whole ones on one, and checkpoints that change the number of ranks."""

import time

import pytest
import torch
import torch.distributed as dist

pytestmark = [
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo to let two processes talk"
    ),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),  # checkpoints of one process
]
if dist.is_available():
    from . import two_ranks

    NAMES = [*two_ranks.CHECKS, *two_ranks.CHECKPOINTS]
else:
    NAMES = []


@pytest.fixture(scope="module")
def meeting(tmp_path_factory):
    """Two processes that run all checks, once; what they found, and the folder of their checkpoints."""
    folder = tmp_path_factory.mktemp("meeting")
    two_ranks.save_checkpoints(folder / "one", False)
    running = torch.multiprocessing.spawn(two_ranks.main, (str(folder),), nprocs=2, join=False)
    end = time.monotonic() + 240
    while not running.join(timeout=5):
        if time.monotonic() > end:
            for process in running.processes:
                process.kill()
            pytest.fail("the two processes wait for each other")
    return [torch.load(folder / f"found_{rank}.pt") for rank in range(2)], folder


@pytest.mark.parametrize("name", NAMES)
def test_on_two_ranks(meeting, name):
    found, _ = meeting
    for rank, results in enumerate(found):
        assert results[name] is None, f"rank {rank}: {results[name]}"


def test_saved_by_two_loaded_by_one(meeting):
    found, folder = meeting
    assert found[0]["saved_by_two"] is None
    two_ranks.load_checkpoints(folder / "two", False)
