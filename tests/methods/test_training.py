import copy
import os
import signal

import numpy as np
import pytest
import torch

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import normalise, predict
from wsol_utils.methods.training import fit


def bars(epoch, n_images=48):
    """Bright upright (0) and lying (1) bars on noise."""
    generator = np.random.default_rng(epoch)
    labels = generator.integers(0, 2, n_images)
    images = generator.integers(0, 100, (n_images, 24, 24, 3), np.uint8)
    for image, label, place in zip(images, labels, generator.integers(4, 18, n_images), strict=True):
        image[(slice(None), slice(place, place + 3)) if label == 0 else slice(place, place + 3)] = 220
    return images, labels


def network():
    return ConvNet(2, 24, 0.05, "gap")


def state(trained):
    return [value.clone() for value in trained.state_dict().values()]


SETTINGS = {"learning_rate": 0.05, "batch_size": 16, "seed": 3, "progress": False}


def flip(images, generator):
    return torch.where(torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5, images, images.flip(2))


def test_it_learns_and_reports_each_epoch(capsys):
    trained = network()
    history = fit(trained, bars, 6, **SETTINGS | {"progress": True}, evaluate=lambda _: {"extra": 1})
    images, labels = bars(100)
    assert (predict(trained, images).argmax(1) == labels).mean() > 0.9
    assert [record["epoch"] for record in history] == list(range(6))
    assert history[-1]["loss"] < history[0]["loss"]
    assert set(history[0]) == {"epoch", "loss", "accuracy", "learning_rate", "extra"}
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "accuracy" in captured.err


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    whole = network()
    history = fit(whole, bars, 5, augment=flip, **SETTINGS)

    def kill_in_third_epoch(_):
        if (calls := calls_so_far.append(0) or len(calls_so_far)) == 3:
            raise KeyboardInterrupt
        return {"calls": calls}

    calls_so_far, path = [], tmp_path / "deep" / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(network(), bars, 5, augment=flip, checkpoint=path, evaluate=kill_in_third_epoch, **SETTINGS)
    torch.manual_seed(99)
    resumed = network()
    continued = fit(resumed, bars, 5, augment=flip, checkpoint=path, **SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(state(whole), state(resumed), strict=True))
    assert [record["loss"] for record in continued] == [record["loss"] for record in history]
    assert [file.name for file in path.parent.iterdir()] == ["run.pt"]
    again = network()
    assert fit(again, bars, 5, augment=flip, checkpoint=path, **SETTINGS) == continued
    assert all(torch.equal(a, b) for a, b in zip(state(whole), state(again), strict=True))


def _train_until_killed(path, moment, n_threads):
    torch.set_num_threads(n_threads)

    def flip_or_die(images, generator):
        if moment == "training" and path.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return flip(images, generator)

    def write_half_and_die(state, file, save=torch.save):
        save(state, file)
        if path.exists():
            os.truncate(file, file.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = write_half_and_die if moment == "writing" else torch.save
    fit(network(), bars, 3, augment=flip_or_die, checkpoint=path, **SETTINGS)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("moment", ["training", "writing"])
def test_sigkill_in_the_second_epoch_is_made_good_bit_for_bit(tmp_path, moment):
    path = tmp_path / "run.pt"
    process = torch.multiprocessing.get_context("spawn").Process(
        target=_train_until_killed, args=(path, moment, torch.get_num_threads())
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    whole, resumed = network(), network()
    history = fit(whole, bars, 3, augment=flip, **SETTINGS)
    assert len(torch.load(path, weights_only=True)["history"]) == 1
    assert fit(resumed, bars, 3, augment=flip, checkpoint=path, **SETTINGS) == history
    assert all(torch.equal(a, b) for a, b in zip(state(whole), state(resumed), strict=True))


def test_dropout_and_order_come_from_the_seed_alone():
    runs = []
    for seed, noise in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(noise)
        trained = ConvNet(2, 24, 0.02, "fc", dropout=0.5)
        before = torch.get_rng_state()
        fit(trained, bars, 1, **SETTINGS | {"seed": seed})
        assert torch.equal(before, torch.get_rng_state())
        runs.append(state(trained)[0])
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_label_sets_with_another_loss():
    def sets(epoch):
        images, labels = bars(epoch)
        return images, np.eye(2, dtype=bool)[labels]

    def loss(logits, targets):
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.float())

    history = fit(network(), sets, 6, loss=loss, **SETTINGS)
    assert history[-1]["accuracy"] > 0.8


def test_one_step_equals_sgd_by_hand():
    trained = network()
    second = copy.deepcopy(trained).train()
    images, labels = bars(0, 16)
    fit(trained, lambda _: (images, labels), 1, **SETTINGS)
    loss = torch.nn.functional.cross_entropy(second(normalise(images)), torch.as_tensor(labels))
    loss.backward()
    optimiser = torch.optim.SGD(second.parameters(), 0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=2).get_last_lr()[0]
    for ours, parameter in zip(trained.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter - rate * (parameter.grad + 5e-4 * parameter), atol=1e-5, rtol=1e-3)


def test_what_is_evaluated_is_kept_in_the_checkpoint(tmp_path):
    options = {"evaluate": lambda network: {"right": 100 * np.mean([True, False])}, **SETTINGS}
    history = fit(network(), bars, 1, checkpoint=tmp_path / "run.pt", **options)
    assert fit(network(), bars, 1, checkpoint=tmp_path / "run.pt", **options) == history
    assert history[0]["right"] == 50


def test_a_full_disk_leaves_no_checkpoint_behind(tmp_path, monkeypatch):
    def stop_half_way(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos")  # torch's words for a full disk

    monkeypatch.setattr(torch, "save", stop_half_way)
    with pytest.raises(OSError, match=r"The checkpoint .*run\.pt cannot be written: free some space there"):
        fit(network(), bars, 1, checkpoint=tmp_path / "run.pt", **SETTINGS)
    assert not list(tmp_path.iterdir())


def test_errors_name_the_thing_and_the_cure(tmp_path):
    with pytest.raises(ValueError, match="Epoch 1 has 32 images, the first 48"):
        fit(network(), lambda epoch: bars(epoch, 48 - 16 * epoch), 2, **SETTINGS)
    path = tmp_path / "run.pt"
    fit(network(), bars, 1, checkpoint=path, **SETTINGS)
    with pytest.raises(ValueError, match="delete it or name another path"):
        fit(network(), bars, 2, checkpoint=path, **SETTINGS)
    with pytest.raises(ValueError, match=r"is of .*, not of .*'recipe': 'narrow'\}; delete it or name another path"):
        fit(network(), bars, 1, checkpoint=path, recipe="narrow", **SETTINGS)
    with pytest.raises(ValueError, match=r"run\.pt is of another network; delete it or name another path"):
        fit(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 1)), bars, 1, checkpoint=path, **SETTINGS)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(OSError, match="cannot be read; delete it to train from the start"):
        fit(network(), bars, 1, checkpoint=path, **SETTINGS)
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        fit(network(), bars, 1, loss=lambda logits, _: logits.sum() * torch.nan, **SETTINGS)


def _train_in_a_group(process, n_processes, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=process, world_size=n_processes)
    trained = plain()
    history = fit(trained, bars, 3, augment=flip, checkpoint=folder / f"{n_processes}.pt", **SETTINGS)
    if process == 0:
        torch.save([history, trained.state_dict()], folder / f"{n_processes}-done.pt")
    torch.distributed.destroy_process_group()


def plain():
    """Without batch normalisation, which would see a process's part of the batch only."""
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 5, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(*layers, torch.nn.Linear(4, 2))


def test_two_processes_give_the_loss_curve_of_one(tmp_path):
    torch.multiprocessing.spawn(_train_in_a_group, (2, tmp_path), 2)
    history, weights = torch.load(tmp_path / "2-done.pt", weights_only=True)
    alone = plain()
    expected = fit(alone, bars, 3, augment=flip, **SETTINGS)
    for one, other in zip(history, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["accuracy"] == other["accuracy"]
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(weights[key], value, atol=1e-5, rtol=1e-4)
    resumed = plain()
    assert fit(resumed, bars, 3, checkpoint=tmp_path / "2.pt", **SETTINGS) == history


def test_processes_must_share_a_batch_equally(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 16: make it a multiple"):
        fit(network(), bars, 1, **SETTINGS)
