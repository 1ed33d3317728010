"""Generation: token ids in, token ids and log-probabilities out, behind one small interface.

    engine = make_engine("auto", model, tokenizer)
    rollouts = engine.generate(prompt_ids, n, Sampling(max_tokens=64), seed)     # P * n Rollouts

Text is made from ids once, to be read by the verifier and the reward model, and never goes back.
"""

import hashlib
from dataclasses import dataclass

import torch
from transformers import AutoTokenizer, DynamicCache


@dataclass(frozen=True)
class Sampling:
    """temperature > 0; top_p 1 samples from the full softmax, as training has to."""
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Rollout:
    """One response. `logprobs` are those of the distribution sampled from, temperature and top_p
    applied; `ids` ends with the end-of-sequence token exactly where `finished`; else it was cut."""
    prompt_ids: list[int]
    ids: list[int]
    logprobs: list[float]
    finished: bool


def derive_seed(*parts):
    """A 62-bit seed from numbers and strings, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 2


def from_pretrained(auto_class, name_or_path, **options):
    """auto_class.from_pretrained with one clear ValueError where there is no such model."""
    try:
        return auto_class.from_pretrained(name_or_path, **options)
    except OSError as error:
        raise ValueError(f"cannot load {str(name_or_path)!r}: it is neither a directory that holds "
                         "a model and its tokenizer, nor a hub name that can be reached from here "
                         f"({str(error).strip().splitlines()[0][:200]})") from error


def load_tokenizer(name_or_path):
    """A tokenizer with a chat template and an end-of-sequence token; ValueError without."""
    tokenizer = from_pretrained(AutoTokenizer, name_or_path)
    for what in ("chat_template", "eos_token"):
        if getattr(tokenizer, what) is None:
            raise ValueError(f"the tokenizer of {name_or_path} has no {what}: use a model that has "
                             "one, or set it and save the tokenizer beside the model")
    return tokenizer


def chat_prompt(tokenizer, problem, instruction=""):
    """A problem as the policy is asked it, in its own chat template. -> list of token ids"""
    text = tokenizer.apply_chat_template([{"role": "user", "content": problem + instruction}],
                                         tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def response_text(tokenizer, rollout):
    """What the verifier and the reward model read: the response without its special tokens."""
    return tokenizer.decode(rollout.ids, skip_special_tokens=True)


def right_padded(rows):
    """Lists of token ids of any lengths -> ids (B, T) and mask (B, T), 1 on real tokens.

    The mask comes from the lengths, never from a pad id: the padding is id 0, whatever that means.
    """
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = torch.tensor(row, dtype=torch.long)
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


class TransformersEngine:
    """Generation with the model itself: nothing to install, nothing to copy, runs anywhere.

    The model may be the trainer's own, which then never needs a push. max_rows bounds the sequences
    decoded together, and with them the memory of the KV cache.
    """

    def __init__(self, model, eos_id, max_rows=512):
        self.model, self.eos_id, self.max_rows = model, eos_id, max_rows

    def generate(self, prompt_ids, n, sampling, seed):
        """n responses to each of P prompts: P * n Rollouts, those of a prompt side by side.

        seed: an int, or one int a prompt (at least n apart). Response j of a prompt draws from its
        own stream, seed + j, so it does not depend on what else is in the batch or on the rank.
        """
        seeds = seed if isinstance(seed, list) else [derive_seed(seed, i)
                                                     for i in range(len(prompt_ids))]
        rows = [(ids, s + j) for ids, s in zip(prompt_ids, seeds, strict=True) for j in range(n)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        done = {}
        for start in range(0, len(order), self.max_rows):
            chunk = order[start:start + self.max_rows]
            done.update(zip(chunk, self._decode([rows[i] for i in chunk], sampling), strict=True))
        return [done[i] for i in range(len(rows))]

    @torch.no_grad()
    def _decode(self, rows, sampling):
        device, count = self.model.device, len(rows)
        # one uniform number a token a row: sampling is then by inverse transform, row by row
        uniform = torch.stack([torch.rand(sampling.max_tokens, dtype=torch.float64,
                                          generator=torch.Generator().manual_seed(seed))
                               for _, seed in rows]).to(device)                  # (B, max_tokens)
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([[0] * (width - len(p)) + p for p, _ in rows], device=device)   # (B, T)
        lengths = torch.tensor([len(p) for p, _ in rows], device=device)
        mask = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
        position = (mask.cumsum(1) - 1).clamp(min=0)
        tokens = torch.full((count, sampling.max_tokens), self.eos_id, device=device)
        logprobs = torch.zeros(count, sampling.max_tokens, device=device)
        used = torch.full((count,), sampling.max_tokens, device=device)          # tokens per row
        live = torch.arange(count, device=device)        # which row each line of the batch decodes
        cache = DynamicCache(config=self.model.config)
        for t in range(sampling.max_tokens):
            logits = self.model(input_ids=ids, attention_mask=mask, position_ids=position,
                                past_key_values=cache, use_cache=True,
                                logits_to_keep=1).logits[:, -1].float()          # (B, V)
            logp = nucleus(torch.log_softmax(logits / sampling.temperature, -1), sampling.top_p)
            cumulative = logp.double().exp().cumsum(-1)
            draw = uniform[live, t, None] * cumulative[:, -1:]
            # right=True: a token of probability 0 is never the first to exceed the draw
            token = torch.searchsorted(cumulative, draw, right=True).clamp(max=logp.shape[1] - 1)
            tokens[live, t] = token[:, 0]
            logprobs[live, t] = logp.gather(1, token)[:, 0]
            ended = token[:, 0] == self.eos_id
            used[live[ended & (used[live] == sampling.max_tokens)]] = t + 1
            going = used[live] == sampling.max_tokens
            if not going.any():
                break
            if going.sum() <= 0.7 * len(live):           # drop the finished rows now and then
                keep = going.nonzero()[:, 0]
                live, token, mask, position = (x[keep] for x in (live, token, mask, position))
                cache.batch_select_indices(keep)
            ids, position = token, position[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(token)], 1)
        tokens, logprobs, used = tokens.tolist(), logprobs.tolist(), used.tolist()
        return [Rollout(prompt, tokens[i][:used[i]], logprobs[i][:used[i]],
                        tokens[i][used[i] - 1] == self.eos_id)
                for i, (prompt, _) in enumerate(rows)]

    def update_weights(self, named_tensors):
        """Takes the trainer's weights; costs nothing for those it shares with the trainer."""
        own = self.model.state_dict()
        for name, tensor in named_tensors:
            if own[name].data_ptr() != tensor.data_ptr():
                own[name].copy_(tensor)

    def sleep(self):
        """Gives memory back between rollouts. The cache is gone already; the weights are in use."""

    def wake(self):
        """The counterpart of sleep."""


def nucleus(logp, top_p):
    """Keeps the most likely tokens that together reach top_p, renormalised. logp: (B, V) -> same"""
    if top_p >= 1:
        return logp
    ordered, index = logp.sort(-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()                  # the mass ahead of each
    ordered = ordered.masked_fill(before >= top_p, -float("inf"))
    return torch.log_softmax(torch.empty_like(logp).scatter_(-1, index, ordered), -1)


def make_engine(kind, model, tokenizer, max_rows=512):
    """The generation engine called `kind`: "auto" or "transformers"; ValueError for others."""
    if kind not in ("auto", "transformers"):
        raise ValueError(f"engine={kind!r} is not known: choose auto or transformers")
    return TransformersEngine(model, tokenizer.eos_token_id, max_rows)
