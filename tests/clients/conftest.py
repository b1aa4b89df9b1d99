"""What all clients' tests share."""

import pytest

from memo import Memory
from tests.real import OneAtATime


@pytest.fixture
def memory(memory: Memory) -> Memory:
    """Server and worker are threads of one process here, and Qdrant's index in memory is made for one thread."""
    assert memory.pending and memory.labels
    memory.index.client = memory.pending.client = memory.labels.client = OneAtATime(memory.index.client)  # type: ignore
    return memory
