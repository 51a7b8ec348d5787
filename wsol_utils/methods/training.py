"""A plain training loop: one-cycle SGD, atomic checkpoints, resumed bit for bit, by one process or several."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from wsol_utils.methods.networks import device_of, normalise


def fit(
    network: nn.Module,
    epochs: Callable[[int], tuple[np.ndarray, np.ndarray]],
    n_epochs: int,
    *,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = nn.functional.cross_entropy,
    learning_rate: float = 0.05,
    batch_size: int = 64,
    seed: int = 0,
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    checkpoint: str | Path | None = None,
    recipe: str | None = None,
    evaluate: Callable[[nn.Module], dict] | None = None,
    progress: bool = True,
) -> list[dict]:
    """Train in place by stochastic gradient descent on a one-cycle schedule and return one record per epoch.

    `epochs(epoch)` gives the epoch's uint8 images (N, H, W, 3) and targets: labels (N,) or label sets (N, C), equally
    many in each epoch; the next epoch is drawn in a thread while this one trains. Momentum 0.9, weight decay 5e-4;
    `learning_rate` is the peak of the schedule. An incomplete last batch is left out. `loss` takes logits, (B, C) or of
    k heads (B, C, k), and targets; `augment` takes uint8 images (B, H, W, 3) and a generator. Records hold epoch, loss,
    accuracy (share of images whose best class is among their labels), the schedule's learning rate, and the numbers by
    name that `evaluate(network)` returns. With a `checkpoint` path the state is written after every epoch; the same
    call goes on from there. `recipe` says what the settings do not, such as the data, the widths and the loss: a
    checkpoint of another recipe is refused. Where `torch.distributed` is set up, each process takes its part of every
    batch, and the gradients are averaged (`DistributedDataParallel`); batch normalisation and dropout then see a
    process's part only, so that only networks without them learn as in one process.

    Raises ValueError for epochs of unequal length, a batch that processes cannot share equally or a checkpoint of other
    settings, OSError for one that is damaged or cannot be written, RuntimeError if the loss is no longer finite.
    """
    device = device_of(network)
    images, targets = epochs(0)
    batch_size = min(batch_size, len(images))
    together = distributed.is_available() and distributed.is_initialized()
    process, n_processes = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    if batch_size % n_processes:
        raise ValueError(f"{n_processes} processes cannot share a batch of {batch_size}: make it a multiple.")
    own = slice(process, None, n_processes)
    n_images, n_batches = len(images), len(images) // batch_size
    optimiser = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4)
    n_steps = n_epochs * n_batches + 1  # the rate reaches zero after the last step
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, n_steps, cycle_momentum=False)
    generator = torch.Generator().manual_seed(seed)
    settings = {"n_epochs": n_epochs, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed}
    settings |= {"recipe": recipe} if recipe else {}
    history = _resume(checkpoint, settings, network, optimiser, schedule, generator) if checkpoint else []
    network.to(memory_format=torch.channels_last)
    shared = DistributedDataParallel(network) if n_processes > 1 else network
    with ThreadPoolExecutor(1) as pool, torch.random.fork_rng():
        drawn = pool.submit(epochs, len(history)) if 0 < len(history) < n_epochs else None
        for epoch in range(len(history), n_epochs):
            if drawn is not None:
                images, targets = drawn.result()
            if len(images) != n_images:
                raise ValueError(f"Epoch {epoch} has {len(images)} images, the first {n_images}; draw equally many.")
            drawn = pool.submit(epochs, epoch + 1) if epoch + 1 < n_epochs else None
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # for dropout, on any device
            order = torch.randperm(n_images, generator=generator)[: n_batches * batch_size].split(batch_size)
            network.train()
            sums = torch.zeros(3, dtype=torch.float64)  # of losses and of right answers, and the number of images
            bar = tqdm(order, f"epoch {epoch + 1}/{n_epochs}", leave=epoch + 1 == n_epochs, disable=not progress)
            for index in bar:
                batch = torch.as_tensor(images[index])
                pixels = normalise(augment(batch, generator) if augment else batch)[own]
                target = torch.as_tensor(targets[index])[own].to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    logits = shared(pixels.to(device, memory_format=torch.channels_last))
                value = loss(logits.float(), target)
                if not torch.isfinite(value):
                    raise RuntimeError(f"The loss is {value.item()} in epoch {epoch + 1}; lower the learning rate.")
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
                schedule.step()
                label_sets = target if target.ndim == 2 else nn.functional.one_hot(target, logits.shape[1])
                right = label_sets.gather(1, logits.argmax(1).reshape(len(target), -1)) > 0  # (B, k heads)
                sums += torch.tensor([len(target) * value.item(), right.float().mean(1).sum().item(), len(target)])
                bar.set_postfix(loss=f"{value.item():.3f}", accuracy=f"{sums[1] / sums[2]:.3f}", refresh=False)
            if n_processes > 1:
                distributed.all_reduce(sums)
            record = {"epoch": epoch, "loss": (sums[0] / sums[2]).item(), "accuracy": (sums[1] / sums[2]).item()}
            record["learning_rate"] = schedule.get_last_lr()[0]
            if evaluate:
                network.eval()
                record |= {name: float(value) for name, value in evaluate(network).items()}
            history.append(record)
            if checkpoint and process == 0:
                _save(checkpoint, settings, network, optimiser, schedule, generator, history)
    network.eval()
    return history


def _save(path, settings, network, optimiser, schedule, generator, history) -> None:
    """Write beside the checkpoint, then rename: a kill leaves the old file or the new one, never half of one."""
    parts = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        torch.save({"settings": settings, "generator": generator.get_state(), "history": history, **parts}, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch calls a full disk a RuntimeError
        temporary.unlink(missing_ok=True)
        raise OSError(f"The checkpoint {path} cannot be written: free some space there.") from error


def _resume(path, settings, network, optimiser, schedule, generator) -> list[dict]:
    """Load the checkpoint, if there is one, into its parts and return the history."""
    if not Path(path).exists():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        wanted = state["settings"]
    except Exception as error:
        raise OSError(f"The checkpoint {path} cannot be read; delete it to train from the start.") from error
    if wanted != settings:
        raise ValueError(f"The checkpoint {path} is of {wanted}, not of {settings}; delete it or name another path.")
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise ValueError(f"The checkpoint {path} is of another network; delete it or name another path.") from error
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    generator.set_state(state["generator"])
    return state["history"]
