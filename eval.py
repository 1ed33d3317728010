"""Evaluation: pass@1 over seeds, pass@k, intervals; what the verifier and the reward model say.

    python eval.py --model runs/NAME/final                      the tiny world's held-out problems
    python eval.py --model DIR --benchmarks a.jsonl b.jsonl     any rows of problem and answer

A problem is a row {"problem", "answer"}. Where it also carries "accepted", every phrasing that is
right, a response counts as right if it says any of them: that is the oracle, and it is data. The
verifier's own verdict is always against "answer" alone, as in training.
"""

import argparse
import json
from math import comb
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import distributed
from rewards import RewardModel, auroc
from rollout import (
    Sampling,
    chat_prompt,
    derive_seed,
    load_tokenizer,
    make_engine,
    response_text,
)
from verify import verify_all


def load_problems(path):
    """Rows of a JSONL file with "problem" and "answer". ValueError names the line at fault."""
    path, rows = Path(path), []
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give a JSONL file of problems and answers")
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} line {number} is not JSON ({error.msg}): "
                                 f"{line[:60].strip()!r}") from error
            for key in ("problem", "answer"):
                if not isinstance(row, dict) or not str(row.get(key) or "").strip():
                    raise ValueError(f"{path} line {number} has no {key!r}: every row needs a "
                                     "problem and an answer")
            rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no problems")
    return rows


def hub_rows(name, split, config=None, revision=None):
    """Streams the rows of a dataset on the hub, or in a local folder of the same files. -> dicts

    Raises ValueError where there is no such dataset or it cannot be reached. Library:
    https://huggingface.co/docs/datasets/stream
    """
    from datasets import load_dataset
    try:
        yield from load_dataset(str(name), config, split=split, revision=revision, streaming=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read split {split!r} of {str(name)!r}: it is neither a folder of "
                         "data files nor a hub dataset that can be reached from here "
                         f"({distributed.first_line(error)}); a local JSONL file always works"
                         ) from error


def load_benchmarks(paths):
    """{file name without its ending: problems}; ValueError if two files share a name."""
    benchmarks = {}
    for path in paths:
        name = Path(path).stem
        if name in benchmarks:
            raise ValueError(f"two evaluation files are called {name}: rename one of them")
        benchmarks[name] = load_problems(path)
    return benchmarks


# ---------------------------------------------------------------------------- grading


def grade(responses, rows):
    """Verdicts against each row's answer, and whether the response is right in truth.

    responses: N strings; rows: N problems. -> (N Verdicts, N bools). A row's "accepted" phrasings
    are tried where the answer itself did not match.
    """
    verdicts = verify_all(responses, [row["answer"] for row in rows])
    right = [v.correct or v.answer in row.get("accepted", ())
             for v, row in zip(verdicts, rows, strict=True)]
    open_pairs = [(i, phrasing) for i, row in enumerate(rows)
                  if not right[i] and verdicts[i].answer for phrasing in row.get("accepted", ())]
    second = verify_all([responses[i] for i, _ in open_pairs], [text for _, text in open_pairs])
    for (i, _), verdict in zip(open_pairs, second, strict=True):
        right[i] |= verdict.correct
    return verdicts, right


def sample(engine, tokenizer, problems, samples, sampling, seed, instruction="",
           reward_model=None):
    """`samples` graded responses to each problem. -> one record a problem, lists of length samples:
    {"problem", "right", "correct", "reason", "rm", "length", "finished"}; rm only with a model.
    """
    prompts = [chat_prompt(tokenizer, row["problem"], instruction) for row in problems]
    seeds = [derive_seed(seed, row["problem"]) for row in problems]
    rollouts = engine.generate(prompts, samples, sampling, seeds)
    texts = [response_text(tokenizer, rollout) for rollout in rollouts]
    rows = [row for row in problems for _ in range(samples)]
    verdicts, right = grade(texts, rows)
    columns = {"right": right, "correct": [v.correct for v in verdicts],
               "reason": [v.reason for v in verdicts], "length": [len(r.ids) for r in rollouts],
               "finished": [r.finished for r in rollouts]}
    if reward_model:
        columns["rm"] = reward_model.score([row["problem"] for row in rows], texts).tolist()
    return [{"problem": row["problem"]}
            | {key: column[i * samples:(i + 1) * samples] for key, column in columns.items()}
            for i, row in enumerate(problems)]


# ---------------------------------------------------------------------------- numbers


def pass_at_k(n, c, k):
    """Chance that one of k samples is right, from c right ones among n: the unbiased estimate
    1 - C(n-c, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374), for 1 <= k <= n."""
    if not 1 <= k <= n or not 0 <= c <= n:
        raise ValueError(f"pass@{k} of {c} right among {n} samples: needs 1 <= k <= n, 0 <= c <= n")
    return 1 - comb(n - c, k) / comb(n, k)


def interval(values, level=0.95, draws=2000):
    """Bootstrap interval of the mean over problems, percentiles. values: (P,) -> (low, high)"""
    values, rng = np.asarray(values, float), np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    return tuple(np.quantile(means, [(1 - level) / 2, (1 + level) / 2]).tolist())


def summarise(records):
    """Records of `sample` -> one dict of numbers, the share of problems or responses unless said:

    pass@1 with its 95 % interval low and high, pass@k for k = all samples; verifier: the share it
    accepts, with precision and recall against the truth; rm: mean score and its mean AUROC against
    the truth in groups that hold both; length in tokens; truncated.
    """
    each = [np.mean(record["right"]) for record in records]
    k = len(records[0]["right"])

    def flat(key):
        return np.array([value for record in records for value in record[key]])

    right, correct = flat("right"), flat("correct")
    low, high = interval(each)
    summary = {"pass@1": float(np.mean(each)), "low": low, "high": high,
               "pass@k": float(np.mean([pass_at_k(k, sum(r["right"]), k) for r in records])),
               "k": k,
               "verifier": float(correct.mean()),
               "precision": float(right[correct].mean()) if correct.any() else None,
               "recall": float(correct[right].mean()) if right.any() else None,
               "length": float(flat("length").mean()),
               "truncated": float(1 - flat("finished").mean())}
    if "rm" in records[0]:
        groups = [auroc(torch.tensor(r["rm"]), torch.tensor(r["right"])) for r in records]
        groups = [value for value in groups if value == value]
        summary |= {"rm": float(flat("rm").mean()),
                    "rm_auroc": float(np.mean(groups)) if groups else None}
    return summary


def evaluate(engine, tokenizer, problems, samples=4, sampling=None, seed=0, instruction="",
             reward_model=None):
    """sample and summarise, over all ranks; T 0.6 and top-p 0.95 as in the paper unless said."""
    sampling = sampling or Sampling(max_tokens=512, temperature=0.6, top_p=0.95)
    ranks = distributed.init()
    mine = problems[ranks.rank::ranks.world_size]
    records = sample(engine, tokenizer, mine, samples, sampling, seed, instruction, reward_model)
    return summarise(distributed.gather_interleaved(records))


# ---------------------------------------------------------------------------- tables and plots

# a method has the same colour in every figure: the palette of Okabe and Ito, safe for the
# colour-blind
COLOURS = {"verifier": "#0072B2", "rm": "#D55E00", "hero": "#009E73", "hero std": "#56B4E9",
           "naive": "#CC79A7", "gate": "#000000", "cold start": "#999999"}


def results_table(rows, columns):
    """Aligned plain text. rows: list of (name, {column: number, text or None}) -> str"""
    def cell(value):
        return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    lines = [["", *columns]] + [[name, *(cell(row.get(c)) for c in columns)] for name, row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join([line[0].ljust(widths[0])]
                               + [text.rjust(w) for text, w in zip(line[1:], widths[1:],
                                                                   strict=True)])
                     for line in lines)


def summary_table(summaries):
    """summaries: {name: summarise(...)} -> str, one row a name."""
    rows = [(name, s | {"95 % interval": f"{s['low']:.3f}-{s['high']:.3f}"})
            for name, s in summaries.items()]
    return results_table(rows, ["pass@1", "95 % interval", "pass@k", "k", "verifier", "precision",
                                "recall", "rm", "rm_auroc", "length", "truncated"])


def plot_curves(metrics, path, title):
    """curves.png of one run from its metrics rows: accuracy, reward model, groups, policy."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = [row for row in metrics if row["step"] > 0]
    names = sorted({key.split("/")[1] for row in metrics for key in row
                    if key.startswith("eval/") and key.endswith("/pass@1")})
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
    figure.suptitle(title)
    accuracy, scores, groups, policy = axes.flat
    for name, colour in zip(names, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        rows = [row for row in metrics if f"eval/{name}/pass@1" in row]
        x = [row["step"] for row in rows]
        accuracy.plot(x, [row[f"eval/{name}/pass@1"] for row in rows], color=colour, marker="o",
                      ms=3, label=f"{name}, truth")
        accuracy.fill_between(x, *([row[f"eval/{name}/{end}"] for row in rows]
                                   for end in ("low", "high")), color=colour, alpha=0.15, lw=0)
        accuracy.plot(x, [row[f"eval/{name}/verifier"] for row in rows], color=colour, ls="--",
                      label=f"{name}, verifier")
    accuracy.set(ylabel="held-out pass@1 (share)", ylim=(0, 1))
    for axis, keys, label in (
            (scores, {"rm/mean": "mean", "rm/auroc": "AUROC in mixed groups"},
             "reward model (score; AUROC)"),
            (groups, {"verify/all_wrong": "all wrong", "verify/mixed": "mixed",
                      "verify/all_correct": "all correct"}, "groups of a step (share)"),
            (policy, {"policy/entropy": "entropy (nats a token)",
                      "policy/gradient_norm": "gradient norm"}, "policy")):
        for (key, name), colour in zip(keys.items(), ("#0072B2", "#E69F00", "#009E73"),
                                       strict=False):
            axis.plot([r["step"] for r in steps], [r[key] for r in steps], color=colour, label=name)
        axis.set(ylabel=label)
    for axis in axes.flat:
        axis.set(xlabel="optimisation step (rollout batches)")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


# ---------------------------------------------------------------------------- command line


def main():
    parser = argparse.ArgumentParser(description="pass@1 of a model on files of problems",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", required=True, help="directory or hub name of the policy")
    parser.add_argument("--benchmarks", nargs="+", metavar="FILE", help="JSONL files of problems",
                        default=["runs/world-0/eval/easy.jsonl", "runs/world-0/eval/hard.jsonl"])
    parser.add_argument("--seeds", type=int, default=8, help="samples of each problem")
    parser.add_argument("--reward_model", help="also report what this reward model says")
    parser.add_argument("--max_tokens", type=int, default=512, help="longest response")
    parser.add_argument("--temperature", type=float, default=0.6, help="sampling temperature")
    parser.add_argument("--top_p", type=float, default=0.95, help="nucleus sampling")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    parser.add_argument("--engine", default="auto", help="what generates: auto, vllm, transformers")
    parser.add_argument("--out", help="JSON file to write; default MODEL/eval.json for a directory")
    args = parser.parse_args()
    benchmarks = load_benchmarks(args.benchmarks)
    ranks = distributed.init()
    tokenizer = load_tokenizer(args.model)
    engine = make_engine(args.engine, args.model, tokenizer)
    judge = RewardModel(args.reward_model, ranks.device) if args.reward_model else None
    sampling = Sampling(args.max_tokens, args.temperature, args.top_p)
    bar = tqdm(benchmarks.items(), desc="evaluation", disable=ranks.rank > 0)
    summaries = {name: evaluate(engine, tokenizer, problems, args.seeds, sampling, args.seed,
                                reward_model=judge) for name, problems in bar}
    if ranks.rank == 0:
        print(summary_table(summaries))
        out = Path(args.out or (Path(args.model) / "eval.json" if Path(args.model).is_dir()
                                else "eval.json"))
        out.write_text(json.dumps({"settings": vars(args), "results": summaries}, indent=1))
        print(f"written to {out}")
    engine.close()


if __name__ == "__main__":
    distributed.run(main)
