"""Seconds a training step: TRL's GRPOTrainer and ours, in turns in one process, the same policy.

    pip install -r requirements.txt "trl==1.16.*"          in an environment of its own
    OMP_NUM_THREADS=1 python -m results.trl_speed          about a minute on one core

Writes trl_speed.md beside this file. The tiny world's policy, one optimizer step a batch and a
reward that costs nothing (the parity of the response's length); then our whole HERO step, with
verifier and reward model. TRL generates with transformers, as we do; no vLLM on either side.
"""

import statistics
import time
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset

import distributed
import hero
import tiny
from eval import load_problems
from rewards import compute_advantages
from rollout import SamplingParams, chat_prompt, derive_seed, load_tokenizer, response_text
from verify import verify_all

HERE = Path(__file__).parent
P, G, TOKENS, ROUNDS, WARM_UP = 16, 8, 42, 20, 3


class Ours:
    """The body of hero.train's loop, without its log: `full` with verifier and reward model."""

    def __init__(self, full, minibatches):
        self.full, self.ranks = full, distributed.init()
        self.cfg = hero.Config(prompts_per_step=P, rollouts_per_prompt=G, num_minibatches=minibatches,
                               max_response_tokens=TOKENS, engine="transformers")
        (self.problems, _, self.policy, self.logprobs, _, self.tokenizer, self.reward_model,
         self.engine) = hero.load(self.cfg, self.ranks)
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), self.cfg.learning_rate,
                                           betas=(0.9, 0.95), weight_decay=0.0)
        self.sigma_sum, self.lengths = 0.0, []

    def step(self, step):
        prompts = hero.prompts_of(self.cfg, self.problems, step)
        rollouts = self.engine.generate(
            [chat_prompt(self.tokenizer, row["problem"]) for row in prompts], G, SamplingParams(TOKENS),
            [derive_seed(0, "rollout", step, p) for p in range(P)])
        texts = [response_text(self.tokenizer, rollout) for rollout in rollouts]
        self.lengths.append([len(rollout.response_ids) for rollout in rollouts])
        if self.full:
            verdicts = verify_all(texts, [row["answer"] for row in prompts for _ in range(G)])
            asked = [row["problem"] for row in prompts for _ in range(G)]
            rm = self.reward_model.score(asked, texts).view(P, G)
            correct = torch.tensor([float(verdict.correct) for verdict in verdicts]).view(P, G)
            self.sigma_sum += rm.std(1, correction=0).sum().item()
            adv = compute_advantages(rm, correct, self.sigma_sum / (step * P))["adv"]
        else:
            reward = torch.tensor(parity(self.lengths[-1])).view(P, G)
            adv = reward - reward.mean(1, keepdim=True)
        hero.update(self.cfg, self.ranks, self.policy, self.logprobs, None, self.optimizer,
                    rollouts, adv.flatten())


def parity(lengths):
    return [float(length % 2) for length in lengths]


class InTurns(transformers.TrainerCallback):
    """After each step of TRL one of each of ours; books the seconds of all."""

    def __init__(self, ours, seconds):
        self.ours, self.seconds = ours, seconds

    def book(self, name):
        now = time.perf_counter()
        self.seconds[name].append(now - self.last)
        self.last = time.perf_counter()

    def on_train_begin(self, *_, **__):
        self.last = time.perf_counter()

    def on_step_end(self, _, state, *__, **___):
        self.book("TRL")
        for name, ours in self.ours.items():
            ours.step(state.global_step)
            self.book(name)


def main():
    distributed.init()                       # one thread, unless OMP_NUM_THREADS says otherwise
    world = Path("runs") / "world-0"
    tiny.ensure(world)
    ours = {"ours, the same reward": Ours(False, 1),
            "ours, the whole HERO step": Ours(True, 1),
            "ours, the whole HERO step, 4 minibatches": Ours(True, 4)}
    seconds, lengths = {name: [] for name in ["TRL", *ours]}, []

    def reward(completion_ids, **_):
        lengths.append([len(ids) for ids in completion_ids])
        return parity(lengths[-1])

    rows = load_problems(world / "train" / "hard.jsonl")
    trainer = trl.GRPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(world / "policy",
                                                                dtype=torch.float32),
        processing_class=load_tokenizer(world / "policy"), reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": row["problem"]}]}
                                         for row in rows]),
        args=trl.GRPOConfig(
            output_dir="runs/trl", max_steps=WARM_UP + ROUNDS, per_device_train_batch_size=P * G,
            gradient_accumulation_steps=1, num_generations=G, max_completion_length=TOKENS,
            learning_rate=3e-5, lr_scheduler_type="constant", adam_beta2=0.95, max_grad_norm=1.0,
            scale_rewards="none", epsilon_high=0.28, beta=0.0, use_cpu=True, bf16=False,
            gradient_checkpointing=False, use_vllm=False, logging_strategy="no",
            save_strategy="no", report_to="none", disable_tqdm=True),
        callbacks=[InTurns(ours, seconds)])
    trainer.train()

    seconds = {name: values[WARM_UP:] for name, values in seconds.items()}
    lengths = {"TRL": lengths} | {name: one.lengths for name, one in ours.items()}
    trl_median = statistics.median(seconds["TRL"])
    lines = ["| a step | seconds | of TRL's | tokens a response |", "|---|---|---|---|"]
    for name, values in seconds.items():
        low, _, high = statistics.quantiles(values)
        median, tokens = statistics.median(values), sum(lengths[name][WARM_UP:], [])
        lines.append(f"| {name} | {median:.3f} ({low:.3f}-{high:.3f}) | {median / trl_median:.2f} "
                     f"| {statistics.mean(tokens):.1f} |")
    lines += ["", f"{P} prompts x {G} responses of at most {TOKENS} tokens, the tiny world's "
              f"policy; {ROUNDS} steps after {WARM_UP} to warm up, all in turns in one process: "
              "median (quartiles). One optimizer step a batch where nothing else is said. float32 "
              f"on the CPU, {torch.get_num_threads()} thread, TRL {trl.__version__} (generation "
              "with transformers, no gradient checkpointing, no log), torch "
              f"{torch.__version__}, transformers {transformers.__version__}.",
              "",
              "    OMP_NUM_THREADS=1 python -m results.trl_speed"]
    (HERE / "trl_speed.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    distributed.run(main)
