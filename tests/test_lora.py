"""LoRA: its gradient, merging, the push, resumption, ranks, the KL reference, the memory plan."""

import importlib.util
import json

import pytest
import torch
from helpers import SMALL, hero_here, metrics_of, prompts, refused
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen3Config

import distributed
import hero
import run
from distributed import gathered_tensors
from hero import token_logprobs
from lora import LoRALinear, add_lora, lora_disabled, lora_layers
from rollout import SamplingParams, TransformersEngine, make_engine, right_padded

LORA = ["--lora_rank", 4, "--learning_rate", 1e-3]


@pytest.fixture(autouse=True)
def group():
    distributed.init()


def train(model, tokenizer):
    """An optimizer step, which makes 1e-2 or -1e-2 of every B that has a gradient."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    ids = torch.tensor(prompts(tokenizer)[:1])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()


def fill(model):
    """Adapters as after a training: no B is zero."""
    generator = torch.Generator().manual_seed(0)
    for layer in lora_layers(model).values():
        layer.lora_b.data.uniform_(-0.1, 0.1, generator=generator)


@pytest.fixture
def adapted(policy):
    """The world's policy with adapters of rank 4."""
    add_lora(policy, rank=4, alpha=32, seed=0)
    fill(policy)
    return policy


@pytest.fixture
def rows(tokenizer):
    """(ids, mask) of a few prompts, every token wanted but the first."""
    return right_padded(prompts(tokenizer))


# ---------------------------------------------------------------------------- one layer


def test_with_a_full_rank_the_gradient_is_that_of_full_training():
    """With A = 1 and scale 1, W + B A has one number of B for each of W. Hence the same gradient,
    and one step of gradient descent on B is one on W."""
    torch.manual_seed(0)
    full = torch.nn.Linear(6, 4).double()
    base = torch.nn.Linear(6, 4).double().requires_grad_(False)
    base.load_state_dict(full.state_dict())
    layer = LoRALinear(base, rank=6, alpha=6, generator=torch.Generator()).double()
    layer.lora_a.data = torch.eye(6).double()

    x = torch.randn(5, 6).double()
    for model in (full, layer):
        model(x).sin().sum().backward()
    assert torch.equal(layer.lora_b.grad, full.weight.grad)

    torch.optim.SGD([full.weight], 0.1).step()
    torch.optim.SGD([layer.lora_b], 0.1).step()
    torch.testing.assert_close(layer.merged_weight().double(), full.weight, rtol=1e-5, atol=1e-6)


def test_a_layer_by_hand():
    """W = (1 0), A = (1 1), B = 3, alpha / rank = 2: y = x1 + 2 * 3 * (x1 + x2)."""
    layer = LoRALinear(torch.nn.Linear(2, 1, bias=False), 1, 2, torch.Generator())
    layer.weight.data = torch.tensor([[1.0, 0.0]])
    layer.lora_a.data = torch.tensor([[1.0, 1.0]])
    layer.lora_b.data = torch.tensor([[3.0]])
    assert layer(torch.tensor([[10.0, 1.0]])).item() == 10 + 2 * 3 * 11
    assert layer.merged_weight().tolist() == [[7.0, 6.0]]


def test_small_steps_are_not_lost_in_a_bfloat16_base():
    """1 + 1e-4 is 1 in bfloat16; the adapter, in float32, keeps what a step adds to it."""
    base = torch.nn.Linear(8, 8, dtype=torch.bfloat16).requires_grad_(False)
    layer = LoRALinear(base, 2, 2, torch.Generator())
    assert layer.lora_a.dtype == layer.lora_b.dtype == torch.float32
    layer.lora_b.data.fill_(1.0)
    layer.lora_b.data += 1e-4
    assert (layer.lora_b > 1).all()
    x = torch.ones(3, 8, dtype=torch.bfloat16)
    assert layer(x).dtype == layer.merged_weight().dtype == torch.bfloat16


# ---------------------------------------------------------------------------- a model


def test_what_is_trained(policy):
    """Adapters of all linear layers of the decoder layers, and nothing else."""
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    add_lora(policy, rank=4, alpha=32, seed=0)
    assert len(lora_layers(policy)) == 7 * policy.config.num_hidden_layers
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    expected = set()
    for path in lora_layers(policy):
        expected |= {f"{path}.lora_a", f"{path}.lora_b"}
    assert trained == expected
    for name, tensor in gathered_tensors(policy):              # B is 0: nothing has changed
        assert torch.equal(tensor, before.pop(name))
    assert not before


def test_without_its_adapters_it_is_the_base(adapted, world, rows):
    plain = AutoModelForCausalLM.from_pretrained(world / "policy", dtype=torch.float32).eval()
    with torch.no_grad():
        trained = token_logprobs(adapted, *rows)
        with lora_disabled(adapted):
            assert torch.equal(token_logprobs(adapted, *rows), token_logprobs(plain, *rows))
        assert torch.equal(token_logprobs(adapted, *rows), trained)


def test_an_engine_of_its_own_gets_the_merged_weights(adapted, world, tokenizer):
    engine = make_engine("transformers", str(world / "policy"), tokenizer)
    engine.update_weights(gathered_tensors(adapted))
    pushed = engine.model.state_dict()
    for path, layer in lora_layers(adapted).items():
        assert torch.equal(pushed[f"{path}.weight"], layer.merged_weight())
        assert not torch.equal(pushed[f"{path}.weight"], layer.weight)


def test_an_engine_that_is_the_policy_is_left_alone(adapted, tokenizer):
    """Merged weights copied into the base would apply the adapters twice."""
    models = run.Models(tokenizer, adapted, None, None, None, None)
    models.engine = TransformersEngine(adapted, [tokenizer.eos_token_id])
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    run.push_weights(models)
    for name, tensor in adapted.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_base_in_bfloat16_as_on_gpus(world, tokenizer):
    """Adapters are float32, with finite gradients. The engine gets the sum in bfloat16, off by at
    most 2^-8 of it, and by 2^-21 of its terms: six roundings of float32, 2^-24 each."""
    model = AutoModelForCausalLM.from_pretrained(world / "policy", dtype=torch.bfloat16).eval()
    add_lora(model, rank=4, alpha=8, seed=0)
    train(model, tokenizer)
    for parameter in model.parameters():
        if parameter.requires_grad:
            assert parameter.dtype == torch.float32 and parameter.grad.isfinite().all()

    fill(model)
    merged = dict(gathered_tensors(model))
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}
    for path, layer in lora_layers(model).items():
        weight, a, b = layer.weight.double(), layer.lora_a.double(), layer.lora_b.double()
        exact = weight + layer.scale * b @ a
        terms = weight.abs() + layer.scale * b.abs() @ a.abs()
        error = (merged[f"{path}.weight"].double() - exact).abs()
        assert (error <= 2**-8 * exact.abs() + 2**-21 * terms).all()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_gets_the_merged_weights(adapted, world, tokenizer):
    engine = make_engine("vllm", str(world / "policy"), tokenizer)
    engine.update_weights(gathered_tensors(adapted))
    rollouts = engine.generate(prompts(tokenizer), 2, SamplingParams(16), seed=0)
    ids, real = right_padded([r.prompt_ids + r.response_ids for r in rollouts])
    starts = torch.tensor([len(r.prompt_ids) for r in rollouts])[:, None]
    mask = real * (torch.arange(ids.shape[1]) >= starts)
    with torch.no_grad():
        logp = token_logprobs(adapted, ids, mask)
    engine_logp = torch.tensor([value for r in rollouts for value in r.logprobs])
    engine.close()
    assert (logp[mask.bool()] - engine_logp).abs().max() < 1e-4


# ---------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """(folder, its metrics) of a run "lora" of four steps with a KL term."""
    folder = tmp_path_factory.mktemp("lora")
    (folder / "runs").mkdir()
    (folder / "runs" / "world-0").symlink_to(world)
    hero_here(folder, "--name", "lora", *SMALL, *LORA, "--kl_coef", 0.1)
    return folder, metrics_of(folder, "lora")


def test_the_reference_of_the_kl_term_is_the_base(trained, world, rows):
    """No second model is loaded, and its log-probabilities are those of the policy's files."""
    assert "policy/kl_ref" in trained[1][-1]
    ranks = distributed.init()
    cfg = hero.Config(policy=str(world / "policy"), reward_model=str(world / "reward_model"),
                      lora_rank=4, kl_coef=0.1, engine="transformers")
    models = run.load_models(cfg, ranks, hero.load_tokenizer(cfg.policy), token_logprobs)
    fill(models.policy)
    plain = AutoModelForCausalLM.from_pretrained(world / "policy", dtype=torch.float32).eval()
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        assert torch.equal(models.ref_logprobs(*rows, 1.0), token_logprobs(plain, *rows))
        assert not torch.equal(models.logprobs(*rows, 1.0), token_logprobs(plain, *rows))


def test_final_is_a_plain_model_and_checkpoints_hold_adapters_only(trained, world):
    folder = trained[0] / "runs" / "lora"
    final = load_file(folder / "final" / "model.safetensors")
    base = load_file(world / "policy" / "model.safetensors")
    assert set(final) == set(base)
    for name, tensor in final.items():
        assert torch.equal(tensor, base[name]) != name.endswith("proj.weight"), name

    saved = torch.load(folder / "checkpoints" / "step_000004" / "training.pt", weights_only=True)
    assert saved["weights"] and len(saved["weights"]) == len(saved["optimizer"])
    assert all(name.endswith(("lora_a", "lora_b")) for name in saved["weights"])


def test_what_cannot_be(folder):
    refused(folder, "--lora_rank", -1, says="--lora_rank -1: has to be 0 or above")
    refused(folder, "--lora_rank", 4, "--lora_alpha", 0, says="--lora_alpha 0.0: has to be above 0")
    refused(folder, "--lora_rank", 4, "--shard", "on", says="leave one of them out")


# ---------------------------------------------------------------------------- the memory plan


def test_the_plan_of_a_run_with_lora(tmp_path):
    """Qwen3-4B's shape: 3.63e9 weights in its layers and 0.39e9 in the embedding, in bfloat16."""
    Qwen3Config(vocab_size=151_936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36,
                num_attention_heads=32, num_key_value_heads=8, head_dim=128,
                tie_word_embeddings=True, architectures=["Qwen3ForCausalLM"],
                ).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen3"
    size = distributed.model_size(AutoModelForCausalLM, tmp_path)

    # q and o: 2560 and 4096; k and v: 2560 and 1024; gate, up and down: 2560 and 9728.
    assert size.linear_widths == 2 * (2560 + 4096) + 2 * (2560 + 1024) + 3 * (2560 + 9728)
    plan = distributed.memory_plan(tmp_path, tmp_path, gpus=1, gpu_gib=80, tokens=16384,
                                   lora_rank=32)
    adapters = 32 * 36 * size.linear_widths
    assert f"{2 * size.parameters / 2**30:7.2f} GiB  base weights, bfloat16" in plan
    assert f"{12 * adapters / 2**30:7.2f} GiB  LoRA adapters and Adam's moments, float32" in plan
    assert f"{4 * adapters / 2**30:7.2f} GiB  gradients of the adapters, float32" in plan
    assert "sharded" not in plan
    assert f"of the disk: {36 * adapters / 2**30:.1f} GiB" in plan
