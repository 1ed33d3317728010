"""What happens once, before reinforcement learning: the SFT cold start and the reward model.

The stages are functions on models, tokenizers and rows, and know nothing of the tiny world, which
is only their first user.
"""

import random

import torch
import torch.nn.functional as F
from tqdm import tqdm

from rewards import bradley_terry_loss
from rollout import chat_prompt, right_padded


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
