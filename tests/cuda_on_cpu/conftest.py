import shutil

import pytest

from . import processes, twin


def pytest_configure(config):
    config.addinivalue_line("markers", "cuda_on_cpu: runs CUDA kernels, or the runtime for them, on the CPU")


def pytest_collection_modifyitems(items):
    if shutil.which("g++") is None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="g++ is not installed"))


def pytest_collection_finish(session):
    """Tests that wait for other processes come last; those begin with the first test."""
    session.items.sort(key=lambda item: _in_processes(item))


def _in_processes(item):
    return item.path.name == "test_cuda_on_cpu_processes.py"


@pytest.fixture(scope="package", autouse=True)
def _built(request):
    twin.build(*twin.MODES)
    if any(_in_processes(item) for item in request.session.items):
        processes.running()
