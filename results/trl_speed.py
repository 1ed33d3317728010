"""Seconds per training step: TRL's GRPOTrainer and this project, the same policy, in turns.

    pip install -r requirements.txt "trl==1.16.*"          in an environment of its own
    OMP_NUM_THREADS=1 python results/trl_speed.py          about a minute on one core

Writes trl_speed.md beside this file. The policy is the tiny world's. Both train on a reward that
costs nothing, the parity of the response's length, and this project also takes whole HERO steps,
with verifier and reward model. Both take one optimizer step per rollout batch, and then, in another
run, four. TRL generates with transformers, as this project does here: there is no vLLM on either
side.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import distributed  # noqa: E402
import hero  # noqa: E402
import tiny  # noqa: E402
from distributed import derive_seed  # noqa: E402
from problems import load_problems, write_file  # noqa: E402
from rewards import Batch, compute_advantages, group_advantages  # noqa: E402
from rollout import SamplingParams, chat_prompt, load_tokenizer, response_text  # noqa: E402
from verify import verify_all  # noqa: E402

P, G = 16, 8
MAX_TOKENS = 42
STEPS = 20
WARM_UP = 3


def parity_rewards(lengths):
    """A reward that costs nothing. lengths: tokens of each response. -> list of 0.0 and 1.0"""
    return [float(length % 2) for length in lengths]


class Trainer:
    """The steps of hero.train without evaluation and log.

    whole: with verifier, reward model and HERO's reward; otherwise with parity_rewards.
    """

    def __init__(self, whole, num_minibatches):
        self.whole = whole
        self.ranks = distributed.init()
        cfg = hero.Config(prompts_per_step=P, rollouts_per_prompt=G,
                          num_minibatches=num_minibatches, max_response_tokens=MAX_TOKENS,
                          engine="transformers")
        self.cfg = hero.use_tiny_world(cfg, self.ranks)
        tokenizer = load_tokenizer(self.cfg.policy)
        self.problems = hero.load_training_problems(self.cfg, tokenizer)
        self.models = hero.load_models(self.cfg, self.ranks, tokenizer)
        self.optimizer = torch.optim.AdamW(self.models.policy.parameters(), self.cfg.learning_rate,
                                           betas=(0.9, 0.95), weight_decay=0.0)
        self.sigma_sum = 0.0
        self.lengths = []                         # per step: tokens of each response

    def take_step(self, step):
        tokenizer = self.models.tokenizer
        prompts = hero.next_prompts(self.cfg, self.problems, step)
        rollouts = self.models.engine.generate(
            [chat_prompt(tokenizer, row["problem"]) for row in prompts], G,
            SamplingParams(MAX_TOKENS), [derive_seed(0, "rollout", step, p) for p in range(P)])
        texts = [response_text(tokenizer, rollout) for rollout in rollouts]
        self.lengths.append([len(rollout.response_ids) for rollout in rollouts])

        if self.whole:
            advantages = self.hero_advantages(step, prompts, texts)
        else:
            rewards = torch.tensor(parity_rewards(self.lengths[-1])).view(P, G)
            advantages = group_advantages(rewards)
        hero.update(self.cfg, self.ranks, self.models, self.optimizer, rollouts,
                    advantages.flatten())

    def hero_advantages(self, step, prompts, texts):
        """Verifier, reward model, Eq. 3 to 5. -> (P, G)"""
        rows = [row for row in prompts for _ in range(G)]
        verdicts = verify_all(texts, [row["answer"] for row in rows])
        verified = torch.tensor([float(verdict.correct) for verdict in verdicts]).view(P, G)
        scores = self.models.reward_model.score([row["problem"] for row in rows], texts).view(P, G)
        self.sigma_sum += scores.std(1, correction=0).sum().item()
        sigma_bar = self.sigma_sum / (step * P)
        return compute_advantages(Batch(scores, verified), sigma_bar).advantages


class TakeTurns(transformers.TrainerCallback):
    """After each rollout batch of TRL, one of each of our trainers; the seconds of all."""

    def __init__(self, trainers, num_minibatches):
        self.trainers = trainers
        self.num_minibatches = num_minibatches
        self.seconds = {name: [] for name in ["TRL", *trainers]}

    def lap(self, name):
        now = time.perf_counter()
        self.seconds[name].append(now - self.last)
        self.last = time.perf_counter()

    def on_train_begin(self, *_, **__):
        self.last = time.perf_counter()

    def on_step_end(self, _, state, *__, **___):
        if state.global_step % self.num_minibatches != 0:          # TRL counts optimizer steps
            return
        self.lap("TRL")
        for name, trainer in self.trainers.items():
            trainer.take_step(state.global_step // self.num_minibatches)
            self.lap(name)


def make_trl_trainer(world, reward, callback, num_minibatches):
    """TRL's trainer with the settings that come closest to hero.py's."""
    prompts = []
    for row in load_problems(world / "train" / "hard.jsonl"):
        prompts.append({"prompt": [{"role": "user", "content": row["problem"]}]})
    policy = transformers.AutoModelForCausalLM.from_pretrained(world / "policy",
                                                               dtype=torch.float32)
    settings = trl.GRPOConfig(
        output_dir="runs/trl", max_steps=(WARM_UP + STEPS) * num_minibatches,
        per_device_train_batch_size=P * G // num_minibatches, steps_per_generation=num_minibatches,
        gradient_accumulation_steps=1, num_generations=G, max_completion_length=MAX_TOKENS,
        learning_rate=3e-5, lr_scheduler_type="constant", adam_beta2=0.95, max_grad_norm=1.0,
        scale_rewards="none", epsilon_high=0.28, beta=0.0, use_cpu=True, bf16=False,
        gradient_checkpointing=False, use_vllm=False, logging_strategy="no",
        save_strategy="no", report_to="none", disable_tqdm=True)
    return trl.GRPOTrainer(
        model=policy, processing_class=load_tokenizer(world / "policy"), reward_funcs=reward,
        train_dataset=Dataset.from_list(prompts), args=settings, callbacks=[callback])


def take_turns(world, num_minibatches):
    """Trains TRL and our trainers in turns. -> the rows of their table"""
    trainers = {"ours, the same reward": Trainer(False, num_minibatches),
                "ours, the whole HERO step": Trainer(True, num_minibatches)}
    trl_lengths = []

    def trl_reward(completion_ids, **_):
        trl_lengths.append([len(ids) for ids in completion_ids])
        return parity_rewards(trl_lengths[-1])

    turns = TakeTurns(trainers, num_minibatches)
    make_trl_trainer(world, trl_reward, turns, num_minibatches).train()

    lengths = {"TRL": trl_lengths}
    for name, trainer in trainers.items():
        lengths[name] = trainer.lengths

    # The first steps only warm up.
    trl_median = statistics.median(turns.seconds["TRL"][WARM_UP:])
    lines = []
    for name, seconds in turns.seconds.items():
        low, median, high = statistics.quantiles(seconds[WARM_UP:])
        tokens = statistics.mean(n for step in lengths[name][WARM_UP:] for n in step)
        lines.append(f"| {name} | {num_minibatches} | {median:.3f} ({low:.3f}-{high:.3f}) "
                     f"| {median / trl_median:.2f} | {tokens:.1f} |")
    return lines


def main():
    distributed.init()                       # one thread, unless OMP_NUM_THREADS says otherwise
    world = Path("runs") / "world-0"
    tiny.ensure(world)
    lines = ["| a rollout batch | optimizer steps | seconds | of TRL's | tokens a response |",
             "|---|---|---|---|---|"]
    for num_minibatches in (1, 4):
        lines += take_turns(world, num_minibatches)
    lines += [
        "",
        f"{P} prompts x {G} responses of at most {MAX_TOKENS} tokens, the tiny world's policy; "
        f"{STEPS} batches after {WARM_UP} to warm up, those of a number of optimizer steps all in "
        "turns in one process: median (quartiles). float32 on the CPU, "
        f"{torch.get_num_threads()} thread, TRL {trl.__version__} (generation with transformers, "
        f"no gradient checkpointing, no log), torch {torch.__version__}, transformers "
        f"{transformers.__version__}.",
        "",
        "    OMP_NUM_THREADS=1 python results/trl_speed.py"]
    text = "\n".join(lines) + "\n"
    write_file(HERE / "trl_speed.md", text)
    print(text)


if __name__ == "__main__":
    distributed.run(main)
