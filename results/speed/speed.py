"""How long things take on a CPU, and beside what. Each command writes a page beside this file.

    python results/speed/speed.py phases runs/NAME    where the time of a run of hero.py went
    python results/speed/speed.py trl                 a training step, beside TRL's
    python results/speed/speed.py rollouts            generation: both engines in turns
    python results/speed/speed.py logprobs            token_logprobs, beside the form that
                                                      everybody writes first

With OMP_NUM_THREADS=1, as they were measured, they take seconds, a minute, two minutes and four,
and the last one 15 GiB of memory. trl needs TRL (pip install "trl==1.16.*", in an environment of
its own); rollouts needs vLLM (requirements-gpu.txt, or on a CPU the lines of .ci/run).
"""

import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))
import distributed  # noqa: E402
import hero  # noqa: E402
import run  # noqa: E402
import tiny  # noqa: E402
from distributed import derive_seed  # noqa: E402
from problems import load_problems, read_jsonl, write_file  # noqa: E402
from rewards import group_advantages  # noqa: E402
from rollout import (  # noqa: E402
    SamplingParams,
    chat_prompt,
    load_tokenizer,
    make_engine,
    response_text,
)
from settings import Parser  # noqa: E402

GIB = 2**30
WORLD = Path("runs") / "world-0"

# What the policies of the tiny world are asked for: P prompts, G responses of so many tokens.
P, G = 16, 8
MAX_TOKENS = 42

# ---------------------------------------------------------------------------- tables and pages


def cell(value):
    """A value of a table: a float with three significant digits, a dash for what is missing."""
    if value is None or value == "":
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows):
    """Rows, {column: value}, as a Markdown table; its columns are those of all rows. -> lines"""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(cell(row.get(column)) for column in columns)} |" for row in rows]
    return lines


def write_page(rows, how, *arguments):
    """Writes the page of a command, and prints it: its table, how it was measured, the command.

    arguments: those of the command; the first is the name of the page.
    """
    command = f"    OMP_NUM_THREADS=1 python results/speed/speed.py {shlex.join(arguments)}"
    text = "\n".join([*table(rows), "", how, "", command]) + "\n"
    write_file(HERE / f"{arguments[0]}.md", text)
    print(text)


def installed(package):
    """The version of a package, or of its build for CPUs; an empty text if there is none."""
    for name in (package, f"{package}-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def software(*packages):
    """The versions of those packages that are installed, in words."""
    return ", ".join(f"{name} {installed(name)}" for name in packages if installed(name))


def threads():
    """What every page says of the processor, in words."""
    return f"float32 on the CPU, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"


# ---------------------------------------------------------------------------- the phases of a run

PHASES = ("generate", "verify", "reward_model", "update", "evaluate")


def phases(folder):
    """Seconds of each phase of a run, in all and per step, and of the tiny world in which it ran.

    folder: runs/NAME. Reads its metrics.jsonl and config.json, and the world.json of the world.
    """
    config = json.loads((folder / "config.json").read_text())
    world = json.loads((folder.parent / f"world-{config['world_seed']}" / "world.json").read_text())
    steps = [row for _, row in read_jsonl(folder / "metrics.jsonl") if row["step"] > 0]

    rows = []
    for name, seconds in world["seconds"].items():
        rows.append({"phase": f"{name.replace('_', ' ')}, once for the world",
                     "seconds in all": f"{seconds:.1f}"})
    for phase in PHASES:
        seconds = [row[f"time/{phase}"] for row in steps if f"time/{phase}" in row]
        name = phase.replace("_", " ")
        if len(seconds) < len(steps):
            name += f" ({len(seconds)} times)"
        rows.append({"phase": name, "seconds in all": f"{sum(seconds):.1f}",
                     "median milliseconds a step": f"{1000 * statistics.median(seconds):.0f}"})

    how = (f"`python {config['made_with']['command']}`: {len(steps)} steps of "
           f"{config['prompts_per_step']} prompts x {config['rollouts_per_prompt']} rollouts, "
           f"{os.cpu_count()} cores.")
    write_page(rows, how, "phases", str(folder))


# ---------------------------------------------------------------------------- beside TRL

STEPS = 20
WARM_UP = 3                                       # steps before these, which do not count


def parity_rewards(lengths):
    """A reward that costs nothing. lengths: tokens of each response. -> list of 0.0 and 1.0"""
    return [float(length % 2) for length in lengths]


def our_trainer(whole, num_minibatches):
    """hero.train without evaluation and log. -> a function that takes the step of a number

    whole: with verifier, reward model and HERO's reward; otherwise with parity_rewards. The
    function returns the tokens of each response.
    """
    ranks = distributed.init()
    cfg = hero.use_tiny_world(hero.Config(
        prompts_per_step=P, rollouts_per_prompt=G, num_minibatches=num_minibatches,
        max_response_tokens=MAX_TOKENS, engine="transformers"), ranks)
    tokenizer = load_tokenizer(cfg.policy)
    problems = hero.load_training_problems(cfg, tokenizer)
    models = run.load_models(cfg, ranks, tokenizer, hero.token_logprobs)
    optimizer = run.make_optimizer(cfg, models.policy)

    def hero_advantages(prompts, rollouts, texts):
        """Verifier, reward model, Eq. 3 to 5, with the sigma_bar of this step alone. -> (P, G)"""
        rows = [row for row in prompts for _ in range(G)]
        verdicts = hero.verify_rollouts(cfg, rows, texts)
        scores = models.reward_model.score([row["problem"] for row in rows], texts).tolist()
        responses = list(map(hero.Response, rollouts, texts, verdicts, scores))
        batch = hero.to_batch(prompts, [responses[i:i + G] for i in range(0, P * G, G)])
        sigma_bar = batch.rm_scores.std(1, correction=0).mean().item()
        return hero.hero_advantages(cfg, models, batch, sigma_bar).advantages

    def take_step(step):
        prompts = hero.next_prompts(cfg, problems, step)
        rollouts = models.engine.generate(
            [chat_prompt(tokenizer, row["problem"]) for row in prompts], G,
            SamplingParams(MAX_TOKENS), [derive_seed(0, "rollout", step, p) for p in range(P)])
        texts = [response_text(tokenizer, rollout) for rollout in rollouts]
        lengths = [len(rollout.response_ids) for rollout in rollouts]
        if whole:
            advantages = hero_advantages(prompts, rollouts, texts)
        else:
            advantages = group_advantages(torch.tensor(parity_rewards(lengths)).view(P, G))
        hero.update(cfg, ranks, models, optimizer, rollouts, advantages)
        return lengths

    return take_step


class TakeTurns(transformers.TrainerCallback):
    """After each rollout batch of TRL, one of each of our trainers; the seconds of all."""

    def __init__(self, trainers):
        self.trainers = trainers
        self.seconds = {name: [] for name in ["TRL", *trainers]}
        self.lengths = {name: [] for name in ["TRL", *trainers]}   # tokens of every response

    def lap(self, name):
        now = time.perf_counter()
        self.seconds[name].append(now - self.last)
        self.last = time.perf_counter()

    def reward(self, completion_ids, **_):
        """What TRL trains on."""
        self.lengths["TRL"].append([len(ids) for ids in completion_ids])
        return parity_rewards(self.lengths["TRL"][-1])

    def on_train_begin(self, *_, **__):
        self.last = time.perf_counter()

    def on_step_end(self, settings, state, *_, **__):
        # TRL counts optimizer steps.
        step, rest = divmod(state.global_step, settings.steps_per_generation)
        if rest:
            return
        self.lap("TRL")
        for name, take_step in self.trainers.items():
            self.lengths[name].append(take_step(step))
            self.lap(name)


def make_trl_trainer(turns, num_minibatches):
    """TRL's trainer with the settings that come closest to hero.py's."""
    import trl
    from datasets import Dataset
    prompts = []
    for row in load_problems(WORLD / "train" / "hard.jsonl"):
        prompts.append({"prompt": [{"role": "user", "content": row["problem"]}]})
    policy = AutoModelForCausalLM.from_pretrained(WORLD / "policy", dtype=torch.float32)
    settings = trl.GRPOConfig(
        output_dir="runs/trl", max_steps=(WARM_UP + STEPS) * num_minibatches,
        per_device_train_batch_size=P * G // num_minibatches, steps_per_generation=num_minibatches,
        gradient_accumulation_steps=1, num_generations=G, max_completion_length=MAX_TOKENS,
        learning_rate=1e-4, lr_scheduler_type="constant", adam_beta2=0.95, max_grad_norm=1.0,
        scale_rewards="none", epsilon_high=0.28, beta=0.0, use_cpu=True, bf16=False,
        gradient_checkpointing=False, use_vllm=False, logging_strategy="no",
        save_strategy="no", report_to="none", disable_tqdm=True)
    return trl.GRPOTrainer(
        model=policy, processing_class=load_tokenizer(WORLD / "policy"),
        reward_funcs=turns.reward, train_dataset=Dataset.from_list(prompts), args=settings,
        callbacks=[turns])


def take_turns(num_minibatches):
    """Trains TRL and our trainers in turns. -> the rows of their table"""
    turns = TakeTurns({"ours, the same reward": our_trainer(False, num_minibatches),
                       "ours, the whole HERO step": our_trainer(True, num_minibatches)})
    make_trl_trainer(turns, num_minibatches).train()

    trl_median = statistics.median(turns.seconds["TRL"][WARM_UP:])
    rows = []
    for name, seconds in turns.seconds.items():
        low, median, high = statistics.quantiles(seconds[WARM_UP:])
        tokens = statistics.mean(n for step in turns.lengths[name][WARM_UP:] for n in step)
        rows.append({"a rollout batch": name, "optimizer steps": num_minibatches,
                     "seconds": f"{median:.3f} ({low:.3f}-{high:.3f})",
                     "of TRL's": f"{median / trl_median:.2f}",
                     "tokens a response": f"{tokens:.1f}"})
    return rows


def compare_with_trl():
    """Seconds per rollout batch of TRL's GRPOTrainer and of this project, the same policy in turns.

    Both train on a reward that costs nothing, and this project also takes whole HERO steps. Both
    take one optimizer step per rollout batch, and then, in another run, four. TRL generates with
    transformers, as this project does here: there is no vLLM on either side.
    """
    tiny.ensure(WORLD)
    rows = take_turns(1) + take_turns(4)
    how = (f"{P} prompts x {G} responses of at most {MAX_TOKENS} tokens, the tiny world's policy; "
           f"{STEPS} batches after {WARM_UP} to warm up, those of a number of optimizer steps all "
           f"in turns in one process: median (quartiles). {threads()}, "
           f"{software('trl', 'torch', 'transformers')}. TRL generates with transformers, without "
           "gradient checkpointing and log.")
    write_page(rows, how, "trl")


# ---------------------------------------------------------------------------- both engines

ROUNDS = 5


def make_larger_policy(folder):
    """Saves 25 million random weights of Qwen3's shape, under the tiny world's tokenizer.

    Such a policy spends its time in the model and not around it.
    """
    tokenizer = load_tokenizer(WORLD / "policy")
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1536, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, head_dim=64, tie_word_embeddings=True,
        max_position_embeddings=256, bos_token_id=None, eos_token_id=tokenizer.eos_token_id))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def race(name, folder):
    """Both engines with the policy in `folder`, in turns. -> a row of the table"""
    tokenizer = load_tokenizer(folder)
    problems = load_problems(WORLD / "eval" / "hard.jsonl")[:P]
    prompts = [chat_prompt(tokenizer, row["problem"]) for row in problems]
    engines = {kind: make_engine(kind, str(folder), tokenizer) for kind in ("transformers", "vllm")}

    speeds = {kind: [] for kind in engines}
    for number in range(ROUNDS + 1):
        for kind, engine in engines.items():
            started = time.perf_counter()
            rollouts = engine.generate(prompts, G, SamplingParams(MAX_TOKENS), seed=number)
            seconds = time.perf_counter() - started
            tokens = sum(len(rollout.response_ids) for rollout in rollouts)
            if number > 0:                                 # the first round warms up
                speeds[kind].append(tokens / seconds)
    parameters = sum(p.numel() for p in engines["transformers"].model.parameters())
    engines["vllm"].close()

    row = {"policy": f"{name}, {parameters / 1e6:.1f}M parameters"}
    for kind, values in speeds.items():
        median = statistics.median(values)
        row[f"{kind}, tokens/s"] = f"{median:,.0f} ({min(values):,.0f}-{max(values):,.0f})"
    ratio = statistics.median(speeds["vllm"]) / statistics.median(speeds["transformers"])
    return row | {"ratio": f"{ratio:.2f}"}


def compare_engines():
    """Tokens per second of both generation engines: the same policy, prompts and lengths."""
    tiny.ensure(WORLD)
    rows = [race("the tiny world's", WORLD / "policy")]
    with tempfile.TemporaryDirectory() as folder:
        make_larger_policy(folder)
        rows.append(race("random weights", folder))
    how = (f"{P} prompts x {G} responses of at most {MAX_TOKENS} tokens, temperature 1; {ROUNDS} "
           "rounds, the engines in turns in one process: median (lowest-highest). "
           f"{threads()}, {software('torch', 'vllm', 'transformers')}.")
    write_page(rows, how, "rollouts")


# ---------------------------------------------------------------------------- log-probabilities

VOCABULARY = 151_936                              # Qwen3's
LENGTHS = (2048, 8192)
TIMES = 3


def naive_logprobs(model, ids, mask):
    """The logits of all positions at once, in float32, and their log-softmax. -> (B, T - 1)"""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()           # (B, T - 1, V)
    all_logp = torch.log_softmax(logits, -1)                                        # (B, T - 1, V)
    return all_logp.gather(2, ids[:, 1:, None])[..., 0] * mask[:, 1:]


FORMS = {"naive": naive_logprobs, "token_logprobs": hero.token_logprobs}


def memory(name):
    """What this process holds, VmRSS, or has held at most, VmHWM, in bytes, on Linux."""
    after_name = Path("/proc/self/status").read_text().split(f"{name}:")[1]
    return int(after_name.split()[0]) * 1024


def measure_form(form, length):
    """Forward and backward over one row of `length` tokens, all wanted, in this process.

    The model has Qwen3's vocabulary over a body of almost nothing. -> (peak in bytes above what the
    process held before, seconds, [sum of the log-probabilities, norm of its gradient])
    """
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
        max_position_embeddings=max(LENGTHS)))
    ids = torch.randint(VOCABULARY, (1, length))                                          # (1, T)

    def forward_and_backward(ids):
        model.zero_grad(set_to_none=False)
        total = FORMS[form](model, ids, torch.ones_like(ids)).sum()
        total.backward()
        return total.item()

    # A short one first allocates the gradients, and whatever else is set up only once.
    forward_and_backward(ids[:, :16])
    before = memory("VmRSS")
    seconds = []
    for _ in range(TIMES):
        started = time.perf_counter()
        total = forward_and_backward(ids)
        seconds.append(time.perf_counter() - started)
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    return memory("VmHWM") - before, statistics.median(seconds), [total, norm]


def compare_forms(length):
    """Both forms at one length, each in a process of its own. -> a row of the table"""
    row = {"tokens": f"{length:,}",
           "one tensor of logits": f"{4 * length * VOCABULARY / GIB:.2f} GiB"}
    outcomes = []                                  # of each form, which have to be the same
    for form in FORMS:
        with ProcessPoolExecutor(1, get_context("spawn"), distributed.init) as process:
            peak, seconds, outcome = process.submit(measure_form, form, length).result()
        row[f"{form}: peak, time"] = f"{peak / GIB:.2f} GiB, {seconds:.1f} s"
        outcomes.append(outcome)
    torch.testing.assert_close(*outcomes, rtol=1e-4, atol=0)
    return row


def measure_logprobs():
    """Peak memory and time of hero.token_logprobs and of naive_logprobs."""
    rows = [compare_forms(length) for length in LENGTHS]
    how = (f"V = {VOCABULARY:,}, batch 1, every token wanted; forward and backward, the median "
           f"time of {TIMES} rounds, the peak above what the process held before them. Both forms "
           "agree in the sum of the log-probabilities and in the norm of the gradient. "
           f"{threads()}, {software('torch', 'transformers')}.")
    write_page(rows, how, "logprobs")


# ---------------------------------------------------------------------------- the command line

COMMANDS = {"phases": phases, "trl": compare_with_trl, "rollouts": compare_engines,
            "logprobs": measure_logprobs}


def main():
    parser = Parser(prog="results/speed/speed.py", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = commands.add_parser(name)
        if name == "phases":
            command.add_argument("folder", type=Path, help="of a run: runs/NAME")
    args = vars(parser.parse_args())
    distributed.init()                       # one thread, unless OMP_NUM_THREADS says otherwise
    COMMANDS[args.pop("name")](**args)


if __name__ == "__main__":
    distributed.run(main)
