"""Real processes under torchrun: the same run on 1 and 2 ranks, failures, checkpoints."""

import random
import socket
import subprocess
import sys
import textwrap

import pytest
import torch
from helpers import ROOT, SMALL, Payload, close, environment, metrics_of, script
from transformers import Qwen3Config, Qwen3ForCausalLM

import distributed


@pytest.fixture(autouse=True)
def group():
    distributed.init()


@pytest.mark.slow
def test_two_nodes_give_the_same_run(folder):
    """Two torchrun agents that meet at a rendezvous, as on two machines, with one rank each."""
    assert script(folder, "hero.py", "--name", "one", *SMALL, "--steps", 2).returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = []
    for is_host in (True, False):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
                   "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint",
                   f"127.0.0.1:{port}", "--rdzv_id", "hero", "--rdzv_conf", f"is_host={is_host}",
                   "--local_addr", "127.0.0.1", ROOT / "hero.py", "--name", "nodes",
                   *map(str, SMALL), "--steps", "2"]
        nodes.append(subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=environment() | {"GLOO_SOCKET_IFNAME": "lo"}))
    outputs = [node.communicate(timeout=200)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    for row, theirs in zip(metrics_of(folder, "one"), metrics_of(folder, "nodes"), strict=True):
        assert all(close(row[key], theirs[key]) for key in row)


# ---------------------------------------------------------------------------- two processes

PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
import torch, distributed
def main():
    BODY
distributed.run(main)
"""


def on_two_ranks(folder, body, *arguments):
    """Runs a program whose main has this body under torchrun. -> CompletedProcess"""
    body = textwrap.indent(textwrap.dedent(body).strip(), "    ").lstrip()
    (folder / "program.py").write_text(PROGRAM.replace("BODY", body))
    return script(folder, folder / "program.py", *arguments, ranks=2)


@pytest.mark.slow
def test_a_failing_rank_ends_all_and_is_named(tmp_path):
    result = on_two_ranks(tmp_path, """
        rank = distributed.init().rank
        distributed.all_sum([1.0])
        if rank == 1:
            raise ValueError("the data is gone")
        distributed.all_sum([1.0])
    """)
    assert result.returncode != 0
    assert "error (rank 1): " in result.stderr and "the data is gone" in result.stderr


@pytest.mark.slow
def test_reductions_in_two_processes(tmp_path):
    result = on_two_ranks(tmp_path, """
        rank = distributed.init().rank
        total = distributed.all_sum([rank + 1.0, 10.0]).tolist()
        assert total == [3.0, 20.0], total
        joined = distributed.gather_interleaved([["a", "c", "e"], ["b", "d"]][rank])
        assert joined == list("abcde"), joined
        assert distributed.run_on_rank_0(lambda: rank) == 0
        model = torch.nn.Linear(2, 1, bias=False)
        model.weight.grad = torch.full((1, 2), float(rank))
        distributed.average_gradients(model)
        assert model.weight.grad.tolist() == [[0.5, 0.5]], model.weight.grad
    """)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_ranks_load_in_turns_and_gather_in_the_engines_dtype(world, tmp_path):
    result = on_two_ranks(tmp_path, """
        from torch.distributed.tensor import DTensor
        from transformers import AutoModelForCausalLM
        rank = distributed.init().rank
        with distributed.one_rank_at_a_time():
            with open("turns", "a") as file:
                print("begins", rank, file=file)
            time.sleep(0.3)
            model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
            distributed.shard(model, type(model).forward)
            with open("turns", "a") as file:
                print("ends", rank, file=file)

        sent = []
        whole = DTensor.full_tensor
        DTensor.full_tensor = lambda tensor: sent.append(tensor.dtype) or whole(tensor)
        for _, tensor in distributed.gathered_tensors(model, torch.bfloat16):
            assert tensor.dtype == torch.bfloat16
        assert set(sent) == {torch.bfloat16}, sent
    """, world / "policy")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "turns").read_text() == "begins 0\nends 0\nbegins 1\nends 1\n"


@pytest.mark.slow
def test_ranks_wait_for_long_work_and_get_the_log_of_rank_0(tmp_path):
    """The time-out of the group of tensors is 3 seconds, and rank 0 works for 6."""
    (tmp_path / "log.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"step": 2}\n')
    result = on_two_ranks(tmp_path, """
        from datetime import timedelta
        import torch.distributed as dist
        start, short = dist.init_process_group, dict(timeout=timedelta(seconds=3))
        dist.init_process_group = lambda *a, **k: start(*a, **k | short)
        rank = distributed.init().rank
        assert distributed.run_on_rank_0(lambda: time.sleep(6) or 7) == 7
        if rank == 1:
            time.sleep(6)
        assert distributed.gather_interleaved([rank]) == [0, 1]
        log = ["log.jsonl", "elsewhere.jsonl"][rank]
        assert distributed.truncate_log(log, 1) == [dict(step=0), dict(step=1)]
    """)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_one_rank_may_train_while_the_others_wait(world, tmp_path):
    """As when rank 0 builds the tiny world: no collective inside, or the others' would meet it."""
    result = on_two_ranks(tmp_path, """
        import prepare
        from transformers import AutoModelForCausalLM
        if distributed.init().rank == 0:
            model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
            losses = prepare.fit(model, iter([[1]] * 2),
                                 lambda model, _: model.lm_head.weight.norm(), 2, 1e-3, "alone")
            assert losses[1] < losses[0]
        assert distributed.all_sum([1.0]).item() == 2
    """, world / "policy")
    assert result.returncode == 0, result.stderr


# ---------------------------------------------------------------------------- one process


def test_all_sum_and_gather_in_one_process():
    assert distributed.all_sum([1.5, 2.0]).tolist() == [1.5, 2.0]
    assert distributed.gather_interleaved(["a", "b"]) == ["a", "b"]
    assert distributed.run_on_rank_0(lambda: 7) == 7


def test_flops_and_peaks_by_hand():
    """A layer of width 8 and a feed-forward of 16: 4 * 64 + 3 * 128 = 640 weights in matrices, 24
    in the norms; 2 layers, the last norm 8 and a head of 10 * 8. Two rows, of 3 and 5."""
    config = Qwen3Config(vocab_size=10, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=2, head_dim=4,
                         tie_word_embeddings=False)
    weights = 2 * (640 + 16 + 8) + 8 + 80
    attention = 2 * (2 * 4) * 2
    assert distributed.forward_flops(Qwen3ForCausalLM(config), [3, 5]) == (
        2 * weights * 8 + attention * (9 + 25))
    assert distributed.peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert distributed.peak_flops("NVIDIA H100 PCIe") == 756e12
    assert distributed.peak_flops("NVIDIA GeForce GTX 1080") is None


# ---------------------------------------------------------------------------- checkpoints


def model_and_optimizer():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_checkpoint_brings_back_everything(tmp_path):
    """Weights, moments, numbers and random state: the next step is the same, bit for bit."""
    model, optimizer = model_and_optimizer()
    distributed.save_checkpoint(tmp_path / "step_000003", model, optimizer,
                                {"step": 3, "sigma_sum": 0.1 + 0.2})
    expected = (torch.rand(1).item(), random.random())
    other, its_optimizer = model_and_optimizer()
    state = distributed.load_checkpoint(tmp_path, other, its_optimizer)
    assert (torch.rand(1).item(), random.random()) == expected
    assert state == {"step": 3, "sigma_sum": 0.1 + 0.2}
    for each in (optimizer, its_optimizer):
        each.step()
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize("place", ["state.pt", "random_0.pt", "training.pt"])
def test_loading_a_checkpoint_executes_nothing_from_it(tmp_path, place):
    """The newest of two checkpoints has a payload somewhere: it is skipped for the one before."""
    for step in (1, 2):
        distributed.save_checkpoint(tmp_path / f"step_{step:06d}", *model_and_optimizer(),
                                    {"step": step})
    torch.save(Payload(tmp_path / "executed"), tmp_path / "step_000002" / place)
    assert distributed.load_checkpoint(tmp_path, *model_and_optimizer()) == {"step": 1}
    assert not (tmp_path / "executed").exists()


def test_saving_never_changes_the_run(tmp_path):
    """Not even before the first optimizer step, when there are no moments to save."""
    after_first_step = []
    for name in ("saved", "not saved"):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), 0.1)
        model(torch.ones(1, 3)).sum().backward()
        if name == "saved":
            distributed.save_checkpoint(tmp_path / "step_000001", model, optimizer, {"step": 1})
            assert not optimizer.state
        optimizer.step()
        after_first_step.append(model.weight)
    assert torch.equal(*after_first_step)

    # A checkpoint without moments leaves none behind.
    model, optimizer = model_and_optimizer()
    assert distributed.load_checkpoint(tmp_path, model, optimizer) == {"step": 1}
    assert not optimizer.state


def test_a_checkpoint_of_other_weights_is_refused(tmp_path, capsys):
    """One weight more than the model has: it is not left out without a word."""
    distributed.save_checkpoint(tmp_path / "step_000001", *model_and_optimizer(), {"step": 1})
    model = torch.nn.Linear(3, 2, bias=False)
    with pytest.raises(OSError, match="none of the 1 checkpoints"):
        distributed.load_checkpoint(tmp_path, model, torch.optim.AdamW(model.parameters(), 0.1))
    assert "it holds other weights than those that this run trains" in capsys.readouterr().out


def test_random_state_is_the_processes_own(monkeypatch):
    """A node of eight GPUs has saved, one of a single GPU resumes: only the own state counts."""
    states = {"own": torch.tensor([1], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: states["own"])
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [states["own"]] * 8)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state: states.update(own=state))
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda saved: [None][len(saved) - 1])
    saved = distributed.random_state()
    states["own"] = None
    distributed.set_random_state(saved)
    assert torch.equal(states["own"], torch.tensor([1], dtype=torch.uint8))


def test_only_whole_and_only_the_newest_checkpoints_are_found(tmp_path):
    for step in range(4):
        distributed.save_checkpoint(tmp_path / f"step_{step:06d}", *model_and_optimizer(),
                                    {"step": step}, keep=2)
    (tmp_path / ".step_000009.partial").mkdir()                # what a kill leaves behind
    names = [path.name for path in distributed.checkpoints(tmp_path)]
    assert names == ["step_000002", "step_000003"]


def test_rewind_drops_later_steps_and_a_torn_line(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 0}\n{"step": 1}\n{"step": 2}\n{"step": 3, "los')
    assert distributed.truncate_log(log, 1) == [{"step": 0}, {"step": 1}]
    assert log.read_text() == '{"step": 0}\n{"step": 1}\n'
    assert distributed.truncate_log(tmp_path / "none.jsonl", 1) == []
