"""What happens once, before reinforcement learning: the SFT cold start and the reward model.

The stages are functions on models, tokenizers and rows, and know nothing of the tiny world, which
is only their first user.
"""

import random

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from rewards import bradley_terry_loss
from rollout import chat_prompt, from_pretrained, right_padded


def fit(model, batches, loss_of, steps, learning_rate, description, warmup=50):
    """Minimises loss_of(model, batch) over an iterator of batches. -> the loss of every step

    AdamW, a linear warm-up and a linear decay to zero, gradients clipped to norm 1.
    """
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.95),
                                  weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / warmup) * (1 - step / steps))
    losses = []
    model.train()
    with tqdm(range(steps), desc=description, mininterval=1) as bar:
        for _ in bar:
            loss = loss_of(model, next(batches))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    model.eval()
    return losses


# ---------------------------------------------------------------------------- cold start


def shuffled(rows, batch_size, rng):
    """Batches of rows for ever, each pass in a new order; no row is left out of a pass."""
    order = []
    while True:
        while len(order) < batch_size:
            order += rng.sample(range(len(rows)), len(rows))
        yield [rows[i] for i in order[:batch_size]]
        order = order[batch_size:]


def sft_rows(tokenizer, pairs):
    """(problem, response) pairs -> (prompt ids, response ids) with the end-of-sequence token."""
    return [(chat_prompt(tokenizer, problem),
             tokenizer(response, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id])
            for problem, response in pairs]


def sft_loss(model, batch):
    """Mean cross-entropy over the response tokens of (prompt ids, response ids) rows. -> scalar"""
    ids, mask = right_padded([prompt + response for prompt, response in batch])        # (B, T)
    starts = torch.tensor([len(prompt) for prompt, _ in batch])[:, None]
    learn = mask.bool() & (torch.arange(ids.shape[1]) >= starts)
    labels = ids.masked_fill(~learn, -100).to(model.device)
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


# ---------------------------------------------------------------------------- reward model


def preference_pairs(problems, responses, correct, limit, rng=random):
    """Pairs within a prompt: a right response against a wrong one, at most `limit` a prompt.

    problems: P strings; responses, correct: P lists of G. -> list of (problem, chosen, rejected).
    A response stands in a pair once, so that one response cannot fill a prompt's share. Prompts
    whose responses are all right or all wrong give none.
    """
    pairs = []
    for problem, texts, verdicts in zip(problems, responses, correct, strict=True):
        right = [t for t, c in zip(texts, verdicts, strict=True) if c]
        wrong = [t for t, c in zip(texts, verdicts, strict=True) if not c]
        count = min(len(right), len(wrong), limit)
        pairs += [(problem, chosen, rejected) for chosen, rejected
                  in zip(rng.sample(right, count), rng.sample(wrong, count), strict=True)]
    return pairs


def fit_reward_model(reward_model, pairs, steps, batch_size, learning_rate, rng, center=0.005):
    """Bradley-Terry training (Eq. 1) of a RewardModel on (problem, chosen, rejected) rows.

    center * score^2 is added, since Eq. 1 leaves the scores' common offset free. -> losses
    """
    rows = [(reward_model.token_ids(problem, chosen), reward_model.token_ids(problem, rejected))
            for problem, chosen, rejected in pairs]

    def loss_of(_, batch):
        scores = reward_model.forward([c for c, _ in batch] + [r for _, r in batch])   # (2B,)
        chosen, rejected = scores.float().chunk(2)
        return bradley_terry_loss(chosen, rejected) + center * scores.square().mean()

    reward_model.model.requires_grad_(True)
    losses = fit(reward_model.model, shuffled(rows, batch_size, rng), loss_of, steps,
                 learning_rate, "reward model")
    reward_model.model.requires_grad_(False)
    return losses


# ---------------------------------------------------------------------------- what a GPU will hold


def parameters(auto_class, name_or_path, **options):
    """Parameters of a model that is not loaded: (all, of a decoder layer), and its config."""
    config = from_pretrained(AutoConfig, name_or_path, **options)
    with torch.device("meta"):
        model = auto_class.from_config(config)
    def count(module):
        return sum(p.numel() for p in module.parameters())
    return count(model), count(model.base_model.layers[0]), config


def memory_plan(policy, reward_model, gpus, gpu_gib, tokens, checkpointing=True, reference=False,
                vllm_share=0.4, logits=2**26):
    """What sharded training will hold on each GPU, in GiB. -> a text, a line an item

    tokens: of a micro-batch; logits: at once, as in hero.token_logprobs; vllm_share: of the GPU.
    Weights are counted exactly, from the configs; activations are estimated: bfloat16, 2 * hidden a
    token and layer kept with checkpointing, and 16 * hidden + 6 * feed-forward in the layer at work
    (in every layer without). Raises ValueError with advice if it cannot fit.
    """
    n, layer, config = parameters(AutoModelForCausalLM, policy)
    rm, _, _ = parameters(AutoModelForSequenceClassification, reward_model, num_labels=1)
    depth, hidden = config.num_hidden_layers, config.hidden_size
    at_work = tokens * (16 * hidden + 6 * config.intermediate_size) * 2
    kept = tokens * hidden * 2 * depth + at_work if checkpointing else at_work * depth
    root = n - depth * layer                        # embedding, norm, head: gathered as a whole
    gathered = 2 * (root + 2 * layer)
    items = {"master weights, float32, sharded": 4 * n / gpus, "Adam's moments": 8 * n / gpus,
             "reward model, bfloat16": 2 * rm,
             "reference, float32, sharded": 4 * n / gpus if reference else 0}
    update = {"gradients, float32, sharded": 4 * n / gpus,
              "gathered layers and head, bfloat16": gathered + 4 * root,
              "activations (estimate)": kept, "logits, float32, and their gradient": 12 * logits}
    vllm = {"vLLM: weights and KV cache": vllm_share * gpu_gib * 2**30}
    always, training, rollouts = (sum(part.values()) / 2**30 for part in (items, update, vllm))
    lines = [f"memory on each of {gpus} GPUs of {gpu_gib:.0f} GiB; update and rollouts take turns:"]
    lines += [f"  {size / 2**30:7.2f} GiB  {name}" for part in (items, update, vllm)
              for name, size in part.items() if size]
    peak = always + max(training, rollouts)
    lines.append(f"  {peak:7.2f} GiB  at the peak, during the "
                 f"{'update' if training > rollouts else 'rollouts'}")
    plan = "\n".join(lines)
    if 2 * n > vllm_share * gpu_gib * 2**30:
        raise ValueError(f"vLLM's share of {vllm_share * gpu_gib:.1f} GiB does not hold the "
                         f"policy's {2 * n / 2**30:.1f}: raise --gpu_memory_utilization\n{plan}")
    if peak > 0.95 * gpu_gib:
        advice = ("lower --gpu_memory_utilization" if rollouts > training else
                  "lower --max_tokens_per_microbatch")
        raise ValueError(f"this run needs {peak:.1f} GiB on GPUs of {gpu_gib:.1f}: take more GPUs, "
                         f"a smaller model, or {advice}\n{plan}")
    return plan
