"""The processor's seconds on one thread, so that methods can be compared on a busy machine too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread for a while.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


class Costs(dict[str, float]):
    """The processor's seconds of named computations.

    Example:
        >>> costs = Costs()
        >>> costs.of("sum", lambda: 1 + 1), costs["sum"] < 1
        (2, True)
    """

    def of(self, name: str, run: Callable[[], T]) -> T:
        """What `run` returns; its seconds on one thread are kept under the name."""
        with one_thread():
            begun = process_time()
            made = run()
            self[name] = process_time() - begun
        return made
