"""Generation: token ids in, token ids and log-probabilities out, behind one small interface.

    engine = make_engine("auto", model, tokenizer)
    rollouts = engine.generate(prompt_ids, n, SamplingParams(max_tokens=64), seed)    # P * n

Two engines keep the protocol `Engine`: the model itself, with transformers, and vLLM inside the
training process, one per rank, with weights of its own that the trainer pushes after every update.
Text is made from ids once, for the verifier and the reward model to read, and is never tokenized
again.
"""

import importlib.util
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
)

import distributed
from distributed import derive_seed, from_pretrained

# ---------------------------------------------------------------------------- the protocol


@dataclass(frozen=True)
class SamplingParams:
    """How to sample. Training has to sample from the full softmax, that is with top_p 1."""
    max_tokens: int
    temperature: float = 1.0                # above 0
    top_p: float = 1.0


@dataclass(frozen=True)
class Rollout:
    """One response to one prompt."""
    prompt_ids: list[int]
    response_ids: list[int]                 # the stop token included, where there is one
    logprobs: list[float]                   # of the distribution sampled from: temperature, top_p
    finished: bool                          # ended in a stop token; False where it was cut


class Engine(Protocol):
    """What generates. To add an engine, write a class with these members and name it in ENGINES."""

    stop_ids: list[int]                     # a response ends with the first of these tokens
    dtype: torch.dtype                      # of its weights: what is pushed needs no more

    def generate(self, prompt_ids: list[list[int]], n: int, params: SamplingParams,
                 seed: int | list[int]) -> list[Rollout]:
        """n responses to each of P prompts: P * n Rollouts, those of a prompt side by side.

        seed: one for all prompts, or a list with one per prompt, at least n apart. Response j of a
        prompt draws from its own stream, seed + j: it depends neither on what else is in the batch
        nor on the number of ranks.
        """

    def update_weights(self, named_tensors):
        """Takes the trainer's weights: (name, whole tensor) under transformers' names, or an
        iterator that gathers each when its turn comes."""

    def sleep(self):
        """Gives memory back to the trainer until the next call of generate."""

    def wake(self):
        """Ends the sleep. generate does it too."""

    def close(self):
        """Ends the engine: the last call of a run, by all ranks."""


def seeds_of(seed, count):
    """One seed per prompt: those given as a list, or `count` of them made from one int."""
    if isinstance(seed, list):
        return seed
    return [derive_seed(seed, i) for i in range(count)]


# ---------------------------------------------------------------------------- text and tokens


# The template of base models that bring none. It has no special tokens but those of the tokenizer,
# so a response ends with the end-of-sequence token.
PLAIN_TEMPLATE = """{{ bos_token }}{% for message in messages -%}
{% if message.role == 'system' %}{{ message.content }}

{% elif message.role == 'user' %}User:
{{ message.content }}

{% else %}Assistant:
{{ message.content }}{{ eos_token }}

{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:
{% endif %}"""


def load_tokenizer(name_or_path, template_file="", fallback=PLAIN_TEMPLATE):
    """A tokenizer with a chat template and an end-of-sequence token; ValueError without.

    template_file: a file with the chat template to use, in Jinja; empty for the tokenizer's own, or
    the fallback if it has none. save_pretrained writes the template too.
    """
    tokenizer = from_pretrained(AutoTokenizer, name_or_path)
    if template_file:
        tokenizer.chat_template = Path(template_file).read_text(encoding="utf-8")
    elif tokenizer.chat_template is None:
        tokenizer.chat_template = fallback
    for what in ("chat_template", "eos_token"):
        if getattr(tokenizer, what) is None:
            raise ValueError(f"the tokenizer of {name_or_path} has no {what}: use a model that has "
                             "one, or set it and save the tokenizer beside the model")
    return tokenizer


def end_of_turn(tokenizer):
    """The id of the special token with which the chat template ends an answer; None without one.

    A base model's own end-of-sequence token often is another: that of Qwen's is <|endoftext|>, and
    their template ends a turn with <|im_end|>.
    """
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    _, answer, after = text.rpartition("answer")
    if not answer:                                 # a template that does not show answers
        return None
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    for token in tokenizer(after, add_special_tokens=False)["input_ids"]:
        if token in special and token != tokenizer.unk_token_id:
            return token
    return None


def find_stop_ids(tokenizer, generation_config):
    """The tokens that end a response, ascending: the tokenizer's end-of-sequence token, the end of
    a turn in its chat template, and those that the model's generation config declares."""
    declared = generation_config.eos_token_id                  # a number, a list or None
    stop_ids = {tokenizer.eos_token_id, end_of_turn(tokenizer)}
    stop_ids |= set(declared) if isinstance(declared, list) else {declared}
    return sorted(stop_ids - {None})


def describe_stop_tokens(tokenizer, stop_ids):
    """A line that names the stop tokens, for the start of a run."""
    names = [f"{tokenizer.convert_ids_to_tokens(i)} ({i})" for i in stop_ids]
    return "a response ends with: " + " or ".join(names)


def load_generation_config(name_or_path):
    """A model's generation config. Without the file it is made from the model's config, as
    transformers does when it loads the model."""
    try:
        return GenerationConfig.from_pretrained(name_or_path)
    except OSError:
        return GenerationConfig.from_model_config(from_pretrained(AutoConfig, name_or_path))


def chat_prompt(tokenizer, problem, instruction=""):
    """The prompt that asks the policy a problem, in its chat template. -> list of token ids"""
    messages = [{"role": "user", "content": problem + instruction}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def response_text(tokenizer, rollout):
    """What the verifier and the reward model read: the response without its special tokens."""
    return tokenizer.decode(rollout.response_ids, skip_special_tokens=True)


def right_padded(rows):
    """Lists of token ids -> ids (B, T) and mask (B, T), where T is the longest row's length.

        [[5, 6, 7],           ids  [[5, 6, 7],       mask  [[1, 1, 1],
         [8]]            ->         [8, 0, 0]]              [1, 0, 0]]

    The mask comes from the lengths, never from a pad id: the padding is id 0, whatever that means.
    """
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = torch.tensor(row, dtype=torch.long)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids, mask


# ---------------------------------------------------------------------------- transformers


class TransformersEngine:
    """Generation with the model itself: nothing to install, nothing to copy, runs anywhere.

    The model may be the trainer's own, which then never needs a push. max_rows bounds the sequences
    decoded together, and with them the memory of the KV cache, down to one prompt's n.
    """

    def __init__(self, model, stop_ids, max_rows=512):
        self.model = model
        self.stop_ids = stop_ids
        self.dtype = model.dtype
        self.max_rows = max_rows

    def generate(self, prompt_ids, n, params, seed):
        """See Engine.generate. Prompts of similar length are decoded together."""
        seeds = seeds_of(seed, len(prompt_ids))
        by_length = sorted(range(len(prompt_ids)), key=lambda i: len(prompt_ids[i]))
        prompts_at_once = max(1, self.max_rows // n)

        rollouts_of = {}                                       # prompt index: its n rollouts
        for start in range(0, len(by_length), prompts_at_once):
            chunk = by_length[start:start + prompts_at_once]
            row_seeds = [seeds[i] + j for i in chunk for j in range(n)]
            rollouts = self.decode([prompt_ids[i] for i in chunk], n, params, row_seeds)
            for k, i in enumerate(chunk):
                rollouts_of[i] = rollouts[k * n:(k + 1) * n]
        return [rollout for i in range(len(prompt_ids)) for rollout in rollouts_of[i]]

    @torch.inference_mode()
    def decode(self, prompts, n, params, seeds):
        """Decodes n responses to each prompt in one batch of B rows. seeds: B ints. -> B Rollouts

        Rows that have ended are dropped from the batch now and then: `live` says which response
        each remaining row decodes.
        """
        device = self.model.device
        count = len(seeds)

        # 1. The prompts, left-padded so that all of them end in the same column.
        width = max(len(ids) for ids in prompts)
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)  # (P, T)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        mask = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
        position = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)

        # 2. One uniform number per row and token decides what is sampled: a row's response then
        #    depends on its own seed alone.
        uniform = torch.stack([uniform_numbers(seed, params.max_tokens) for seed in seeds])
        uniform = uniform.to(device)                                             # (B, max_tokens)

        # 3. One token per row and step.
        tokens = torch.zeros(count, params.max_tokens, dtype=torch.long, device=device)
        logprobs = torch.zeros(count, params.max_tokens, device=device)
        used = torch.full((count,), params.max_tokens, device=device)            # tokens per row
        finished = torch.zeros(count, dtype=torch.bool, device=device)
        live = torch.arange(count, device=device)
        stop_ids = torch.tensor(self.stop_ids, device=device)
        for t in range(params.max_tokens):
            output = self.model(input_ids=ids, attention_mask=mask, position_ids=position,
                                past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits = output.logits[:, -1].float()                                # (rows, V)
            if t == 0:
                # Each prompt has been read once; from here on it has n rows.
                logits = logits.repeat_interleave(n, 0)
                mask = mask.repeat_interleave(n, 0)
                position = position.repeat_interleave(n, 0)
                cache.batch_repeat_interleave(n)

            token, logp = sample_tokens(logits, params, uniform[live, t])        # (rows, 1) each
            tokens[live, t] = token[:, 0]
            logprobs[live, t] = logp[:, 0]

            # A row that has ended is decoded on until it is dropped; step 4 cuts that off.
            just_ended = live[torch.isin(token[:, 0], stop_ids) & ~finished[live]]
            used[just_ended] = t + 1
            finished[just_ended] = True
            going = ~finished[live]
            if not going.any():
                break
            if going.sum() <= 0.7 * len(live):
                keep = going.nonzero()[:, 0]
                live = live[keep]
                token = token[keep]
                mask = mask[keep]
                position = position[keep]
                cache.batch_select_indices(keep)

            ids = token
            position = position[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(token)], 1)

        # 4. Without what was decoded after a row's end.
        tokens, logprobs = tokens.tolist(), logprobs.tolist()
        used, finished = used.tolist(), finished.tolist()
        return [Rollout(prompts[i // n], tokens[i][:used[i]], logprobs[i][:used[i]], finished[i])
                for i in range(count)]

    def update_weights(self, named_tensors):
        """See Engine.update_weights. Weights that are the trainer's own cost nothing."""
        own = self.model.state_dict()
        for name, tensor in named_tensors:
            if own[name].data_ptr() != tensor.data_ptr():
                own[name].copy_(tensor)

    def sleep(self):
        """See Engine.sleep. The KV cache is gone already, and the weights are in use."""

    def wake(self):
        """See Engine.wake."""

    def close(self):
        """See Engine.close. There is nothing to end."""


def uniform_numbers(seed, count):
    """`count` numbers in [0, 1) from a seed, the same on every device. -> (count,) float64"""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, dtype=torch.float64, generator=generator)


def sample_tokens(logits, params, uniform):
    """Samples by inverse transform. logits: (B, V), uniform: (B,) -> tokens and logprobs (B, 1)"""
    logp = nucleus(torch.log_softmax(logits / params.temperature, -1), params.top_p)     # (B, V)
    cumulative = logp.double().exp().cumsum(-1)
    draw = uniform[:, None] * cumulative[:, -1:]
    # right=True: a token of probability 0 is never the first to exceed the draw
    token = torch.searchsorted(cumulative, draw, right=True).clamp(max=logp.shape[1] - 1)
    return token, logp.gather(1, token)


def nucleus(logp, top_p):
    """Keeps the most likely tokens that together reach top_p, renormalized. logp: (B, V) -> same"""
    if top_p >= 1:
        return logp
    ordered, index = logp.sort(-1, descending=True)
    mass_before = ordered.exp().cumsum(-1) - ordered.exp()
    ordered = ordered.masked_fill(mass_before >= top_p, -float("inf"))
    kept = torch.empty_like(logp).scatter_(-1, index, ordered)
    return torch.log_softmax(kept, -1)


# ---------------------------------------------------------------------------- vLLM


class VLLMEngine:
    """Generation with vLLM 0.32, one engine per rank, in the training process.

    It starts with the weights in the model's files and keeps its own copy, float32 on a CPU and
    bfloat16 on a GPU: what the trainer has changed since has to be pushed.
    """

    def __init__(self, name_or_path, stop_ids, max_rows, gpu_memory_utilization):
        ranks = distributed.init()               # first: otherwise vLLM makes a group of its own
        self.stop_ids = stop_ids
        self.on_cpu = ranks.device.type == "cpu"
        self.asleep = set()                      # tags of what is not in the GPU's memory now

        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        for name in ("RANK", "LOCAL_RANK"):      # where torchrun has not set them
            os.environ.setdefault(name, "0")
        if self.on_cpu:                          # or g++ compiles a helper of the sampler for 15 s
            import torch._dynamo
            torch._dynamo.config.disable = True
            memory = {"kv_cache_memory_bytes": 256 << 20}
        else:
            memory = {"gpu_memory_utilization": gpu_memory_utilization}

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
                enable_sleep_mode=self.can_sleep, use_tqdm_on_load=False, **memory)
        distributed.set_random_state(random_state)
        self.vllm_params = vllm.SamplingParams
        self.config = self.llm.llm_engine.model_config
        self.dtype = self.config.dtype

    def generate(self, prompt_ids, n, params, seed):
        """See Engine.generate. ValueError for a prompt that leaves too little room."""
        self.wake()                              # asleep, vLLM would wait forever
        self.check_room(prompt_ids, params)

        requests = []
        for prompt_seed in seeds_of(seed, len(prompt_ids)):
            requests.append(self.vllm_params(
                n=n, seed=prompt_seed,           # vLLM seeds the j-th of n with seed + j
                max_tokens=params.max_tokens, temperature=params.temperature, top_p=params.top_p,
                logprobs=0, flat_logprobs=True, detokenize=False,
                # these and no others: vLLM's own reading of the model's configs is switched off
                stop_token_ids=self.stop_ids, ignore_eos=True))
        outputs = self.llm.generate([{"prompt_token_ids": ids} for ids in prompt_ids], requests,
                                    use_tqdm=False)

        rollouts = []
        for prompt, output in zip(prompt_ids, outputs, strict=True):
            for row in output.outputs:
                response_ids = list(row.token_ids)
                finished = response_ids[-1] in self.stop_ids
                # flat: one number per token, not one dictionary with an object
                rollouts.append(Rollout(prompt, response_ids, row.logprobs.logprobs, finished))
        return rollouts

    def check_room(self, prompt_ids, params):
        """Raises ValueError where vLLM would cut a response silently."""
        longest = max(map(len, prompt_ids), default=0)
        limit = self.config.max_model_len
        if longest + params.max_tokens > limit:
            raise ValueError(f"a prompt of {longest} tokens and a response of {params.max_tokens} "
                             f"do not fit into the {limit} that the model, or vLLM's memory for "
                             "it, has room for: shorten them, or raise --gpu_memory_utilization")

    def update_weights(self, named_tensors):
        """See Engine.update_weights: copies one tensor at a time, and empties the prefix cache.

        An iterator of tensors needs memory for about one layer. Raises RuntimeError if the cache,
        which holds the work of the old weights, is not emptied.
        """
        self.wake_up("weights")                  # the KV cache sleeps on: gathering needs room
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": named_tensors})
        if self.on_cpu:
            # On a CPU the output head works on a repacked copy of its weight. vLLM does not renew
            # that copy where the head is tied to the embedding.
            self.llm.apply_model(lambda model: model.lm_head.quant_method
                                 .process_weights_after_loading(model.lm_head))
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM refused to reset its prefix cache, so that it would answer "
                               "from the old weights: a generation is still running in it")

    def sleep(self):
        """See Engine.sleep. The weights go to RAM, so an engine that is woken without a push still
        has them."""
        if self.can_sleep and not self.asleep:
            self.llm.sleep(level=1)
            self.asleep = {"weights", "kv_cache"}

    def wake(self):
        """See Engine.wake."""
        self.wake_up("weights", "kv_cache")

    def wake_up(self, *tags):
        tags = self.asleep.intersection(tags)
        if tags:
            torch.cuda.empty_cache()             # what the trainer has freed but still holds
            self.llm.wake_up(list(tags))
            self.asleep -= tags

    def close(self):
        """See Engine.close. vLLM ends the process group too, hence the barrier before it."""
        distributed.barrier()
        self.llm.llm_engine.engine_core.shutdown()


@contextmanager
def hidden_stderr():
    """Suppresses stderr, output from C++ included, and prints it only if an exception is raised."""
    with tempfile.TemporaryFile() as hidden:
        stderr = os.dup(2)
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


# ---------------------------------------------------------------------------- which engine

ENGINES = {"vllm": VLLMEngine, "transformers": TransformersEngine}


def resolve_engine(kind):
    """The name of the engine that `kind` stands for: "auto" is vllm where there is a GPU, else
    transformers.

    Raises ValueError for an unknown name, and for vllm where it is not installed: the transformers
    engine would decode the rollouts of a GPU run far slower, and with a larger KV cache.
    """
    installed = importlib.util.find_spec("vllm") is not None
    if kind == "auto":
        kind = "vllm" if torch.cuda.is_available() else "transformers"
    if kind not in ENGINES:
        raise ValueError(f"engine={kind!r} is not known: choose auto, {' or '.join(ENGINES)}")
    if kind == "vllm" and not installed:
        raise ValueError("vLLM is not installed, the engine for GPUs: pip install -r "
                         "requirements-gpu.txt (on a CPU: the lines of .ci/run), or choose "
                         "--engine transformers")
    return kind


def make_engine(kind, model, tokenizer, max_rows=512, gpu_memory_utilization=0.4):
    """The generation engine called `kind`: auto, vllm or transformers. ValueError: resolve_engine.

    model: a transformers model that was loaded from a directory or the hub, or the name of one.
    vLLM reads the same files again. max_rows: sequences decoded together; gpu_memory_utilization:
    the share of a GPU that vLLM takes for its weights and KV cache.
    """
    engine = resolve_engine(kind)
    by_name = not isinstance(model, torch.nn.Module)
    name = model if by_name else model.name_or_path
    generation_config = load_generation_config(name) if by_name else model.generation_config
    stop_ids = find_stop_ids(tokenizer, generation_config)
    if engine == "vllm":
        return VLLMEngine(name, stop_ids, max_rows, gpu_memory_utilization)
    if by_name:
        model = from_pretrained(AutoModelForCausalLM, model).to(distributed.init().device).eval()
    return TransformersEngine(model, stop_ids, max_rows)
