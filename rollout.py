"""Generation: token ids in, token ids and log-probabilities out, behind one small interface.

    engine = make_engine("auto", model, tokenizer)
    rollouts = engine.generate(prompt_ids, n, SamplingParams(max_tokens=64), seed)     # P * n Rollouts

Two engines: the model itself, and vLLM inside the training process, one a rank, with weights of its
own that the trainer pushes after every update. A run's last call to its engine is close().
Text is made from ids once, to be read by the verifier and the reward model, and never goes back.
"""

import importlib.util
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

import distributed
from distributed import derive_seed, from_pretrained


@dataclass(frozen=True)
class SamplingParams:
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


def prompt_seeds(seed, count):
    """One seed a prompt: those given as a list, or `count` of them made from one int."""
    return seed if isinstance(seed, list) else [derive_seed(seed, i) for i in range(count)]


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
    return tokenizer.decode(rollout.response_ids, skip_special_tokens=True)


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
    decoded together, and with them the memory of the KV cache, down to one prompt's n.
    """

    def __init__(self, model, eos_id, max_rows=512):
        self.model, self.eos_id, self.max_rows = model, eos_id, max_rows

    def generate(self, prompt_ids, n, sampling, seed):
        """n responses to each of P prompts: P * n Rollouts, those of a prompt side by side.

        seed: an int, or one int a prompt (at least n apart). Response j of a prompt draws from its
        own stream, seed + j, so it does not depend on what else is in the batch or on the rank.
        """
        seeds = prompt_seeds(seed, len(prompt_ids))
        order = sorted(range(len(prompt_ids)), key=lambda i: len(prompt_ids[i]))
        share, done = max(1, self.max_rows // n), {}
        for start in range(0, len(order), share):
            chunk = order[start:start + share]
            rollouts = self._decode([prompt_ids[i] for i in chunk], n, sampling,
                                    [seeds[i] + j for i in chunk for j in range(n)])
            done.update((i, rollouts[k * n:(k + 1) * n]) for k, i in enumerate(chunk))
        return [rollout for i in range(len(prompt_ids)) for rollout in done[i]]

    @torch.inference_mode()
    def _decode(self, prompts, n, sampling, seeds):
        device, count = self.model.device, len(seeds)
        # one uniform number a token a row: sampling is then by inverse transform, row by row
        uniform = torch.stack([torch.rand(sampling.max_tokens, dtype=torch.float64,
                                          generator=torch.Generator().manual_seed(seed))
                               for seed in seeds]).to(device)                    # (B, max_tokens)
        width = max(len(ids) for ids in prompts)
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)   # (P, T)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
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
            if t == 0:                               # a prompt is read once for its n responses
                logits, mask, position = (x.repeat_interleave(n, 0)
                                          for x in (logits, mask, position))
                cache.batch_repeat_interleave(n)
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
        return [Rollout(prompts[i // n], tokens[i][:used[i]], logprobs[i][:used[i]],
                        tokens[i][used[i] - 1] == self.eos_id) for i in range(count)]

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

    def close(self):
        """Nothing was started, so nothing is ended."""


def nucleus(logp, top_p):
    """Keeps the most likely tokens that together reach top_p, renormalised. logp: (B, V) -> same"""
    if top_p >= 1:
        return logp
    ordered, index = logp.sort(-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()                  # the mass ahead of each
    ordered = ordered.masked_fill(before >= top_p, -float("inf"))
    return torch.log_softmax(torch.empty_like(logp).scatter_(-1, index, ordered), -1)


class VLLMEngine:
    """Generation with vLLM 0.32, one engine a rank, in the training process.

    It starts with the weights in the model's files and keeps its own copy, float32 on a CPU and
    bfloat16 on a GPU: what the trainer has changed since has to be pushed.
    """

    def __init__(self, name_or_path, eos_id, max_rows, gpu_memory_utilization):
        ranks = distributed.init()               # first: vLLM would make a group of its own
        self.eos_id, self.on_cpu, self.asleep = eos_id, ranks.device.type == "cpu", set()
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        for name in ("RANK", "LOCAL_RANK"):      # where torchrun has not set them
            os.environ.setdefault(name, "0")
        if self.on_cpu:                          # or g++ compiles a helper of the sampler for 15 s
            import torch._dynamo
            torch._dynamo.config.disable = True
        random_state = distributed.random_state()          # LLM() seeds every global generator
        with hidden_stderr():
            import vllm
            from vllm.platforms import current_platform
            self.can_sleep = current_platform.is_sleep_mode_available()
            self.llm = vllm.LLM(
                str(name_or_path), skip_tokenizer_init=True, generation_config="vllm",
                dtype="float32" if self.on_cpu else "bfloat16", enforce_eager=self.on_cpu,
                distributed_executor_backend="external_launcher",    # in this process, on its GPU
                logprobs_mode="processed_logprobs", max_num_seqs=max_rows,
                max_model_len=-1,                # the model's, or what fits into the KV cache
                enable_sleep_mode=self.can_sleep, use_tqdm_on_load=False,
                **({"kv_cache_memory_bytes": 256 << 20} if self.on_cpu else
                   {"gpu_memory_utilization": gpu_memory_utilization}))
        distributed.set_random_state(random_state)
        self.sampling_params, self.config = vllm.SamplingParams, self.llm.llm_engine.model_config

    def generate(self, prompt_ids, n, sampling, seed):
        """As TransformersEngine.generate. ValueError for a prompt that leaves too little room."""
        self.wake()                              # asleep, vLLM would wait for ever
        longest, limit = max(map(len, prompt_ids), default=0), self.config.max_model_len
        if longest + sampling.max_tokens > limit:          # vLLM would cut the response silently
            raise ValueError(f"a prompt of {longest} tokens and a response of "
                             f"{sampling.max_tokens} do not fit into the {limit} that the model, "
                             "or vLLM's memory for it, has room for: shorten them, or raise "
                             "--gpu_memory_utilization")
        # vLLM seeds the j-th of n with seed + j; one stop token, whatever the model's config says
        params = [self.sampling_params(n=n, seed=s, max_tokens=sampling.max_tokens, logprobs=0,
                                       temperature=sampling.temperature, top_p=sampling.top_p,
                                       stop_token_ids=[self.eos_id], ignore_eos=True,
                                       detokenize=False)
                  for s in prompt_seeds(seed, len(prompt_ids))]
        requests = self.llm.generate([{"prompt_token_ids": ids} for ids in prompt_ids], params,
                                     use_tqdm=False)
        return [Rollout(prompt, list(row.token_ids),
                        [step[token].logprob for token, step in
                         zip(row.token_ids, row.logprobs, strict=True)],
                        row.finish_reason == "stop")
                for prompt, request in zip(prompt_ids, requests, strict=True)
                for row in request.outputs]

    def update_weights(self, named_tensors):
        """Copies the trainer's weights into vLLM's, one tensor at a time, and empties its cache.

        named_tensors: (name, tensor) under the names of the transformers model, all of them whole;
        an iterator that gathers each when its turn comes needs memory for about one layer.
        Raises RuntimeError if the cache of prompts, which holds the old weights' work, stays.
        """
        self._wake("weights")                    # the KV cache sleeps on: gathering needs room
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": named_tensors})
        if self.on_cpu:                          # the head works on a repacked copy of its weight,
            # which nobody renews where it is tied to the embedding
            self.llm.apply_model(lambda model: model.lm_head.quant_method
                                 .process_weights_after_loading(model.lm_head))
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM refused to reset its prefix cache, so that it would answer "
                               "from the old weights: a generation is still running in it")

    def sleep(self):
        """Gives the GPU memory back between rollouts, where the platform can; weights go to RAM,
        so that an engine that is woken without a push is still right."""
        if self.can_sleep and not self.asleep:
            self.llm.sleep(level=1)
            self.asleep = {"weights", "kv_cache"}

    def wake(self):
        """The counterpart of sleep; generate calls it, so that nobody has to."""
        self._wake("weights", "kv_cache")

    def _wake(self, *tags):
        tags = self.asleep.intersection(tags)
        if tags:
            torch.cuda.empty_cache()             # what the trainer has freed but still holds
            self.llm.wake_up(list(tags))
            self.asleep -= tags

    def close(self):
        """Ends vLLM, which ends the process group with it: all ranks call it when all is done."""
        torch.distributed.barrier()
        self.llm.llm_engine.engine_core.shutdown()


@contextmanager
def hidden_stderr():
    """What is written to stderr meanwhile, by C++ too, is shown only if an exception ends it."""
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def resolve_engine(kind):
    """"auto" is vllm where it is installed and a GPU is there, else transformers. -> its name

    Raises ValueError for vllm where it is not installed and for other names.
    """
    installed = importlib.util.find_spec("vllm") is not None
    if kind == "auto":
        return "vllm" if installed and torch.cuda.is_available() else "transformers"
    if kind not in ("vllm", "transformers"):
        raise ValueError(f"engine={kind!r} is not known: choose auto, vllm or transformers")
    if kind == "vllm" and not installed:
        raise ValueError("engine='vllm' is not installed: pip install -r requirements-gpu.txt (on "
                         "a CPU: the lines of .ci/run), or choose --engine transformers")
    return kind


def make_engine(kind, model, tokenizer, max_rows=512, gpu_memory_utilization=0.4):
    """The generation engine called `kind`: auto, vllm or transformers. ValueError: resolve_engine.

    model: a transformers model that was loaded from a directory or the hub, or the name of one.
    vLLM reads the same files again. max_rows: sequences decoded together; gpu_memory_utilization:
    the share of a GPU that vLLM takes for its weights and KV cache.
    """
    by_name = not isinstance(model, torch.nn.Module)
    if resolve_engine(kind) == "vllm":
        return VLLMEngine(model if by_name else model.name_or_path, tokenizer.eos_token_id,
                          max_rows, gpu_memory_utilization)
    if by_name:
        model = from_pretrained(AutoModelForCausalLM, model).to(distributed.init().device).eval()
    return TransformersEngine(model, tokenizer.eos_token_id, max_rows)
