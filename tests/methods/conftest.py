from contextlib import contextmanager

import pytest
import torch


def state(network):
    """All of a network that a method could leave changed: modes, hooks, settings, flags, gradients and values."""
    modules = [
        (
            module.training,
            getattr(module, "inplace", None),
            sorted(key for key in vars(module) if key != "_parameters"),
            [len(hooks) for key, hooks in vars(module).items() if key.endswith("hooks")],
        )
        for module in network.modules()
    ]
    parameters = [(parameter.requires_grad, parameter.grad is None) for parameter in network.parameters()]
    return modules, parameters, [value.clone() for value in network.state_dict().values()]


@pytest.fixture
def unchanged():
    """`with unchanged(network):` fails if the block changes anything of the network, also if the block raises."""

    @contextmanager
    def watch(network, mode=torch.no_grad):
        network.train()
        next(network.parameters()).requires_grad_(False)
        modules, parameters, values = state(network)
        try:
            with mode():
                yield network
        finally:
            modules_after, parameters_after, values_after = state(network)
            assert modules_after == modules
            assert parameters_after == parameters
            assert all(torch.equal(before, after) for before, after in zip(values, values_after, strict=True))

    return watch
