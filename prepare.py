"""What happens once, before reinforcement learning: the split, the cold start, the reward model.

    python prepare.py split --model M               easy, hard and mixed problems, by the verifier
    python prepare.py sft --model M                 two epochs on M's own right responses
    python prepare.py rm --model M                  a Bradley-Terry reward model from M's responses

Each also runs under torchrun, and goes on where it was killed when it is called again: generated
responses are kept as JSONL. The functions that train know nothing of files, and the tiny world is
their first user.
"""

import argparse
import hashlib
import heapq
import json
import os
import random
import re
import shutil
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import distributed
from distributed import derive_seed, from_pretrained
from problems import (
    BENCHMARKS,
    SOURCE,
    STEP_BY_STEP,
    first_line,
    load_problems,
    stream_hub,
    stream_problems,
    write_file,
    write_jsonl,
)
from rewards import RewardModel, auroc, bradley_terry_loss
from rollout import (
    SamplingParams,
    chat_prompt,
    load_tokenizer,
    make_engine,
    resolve_engine,
    response_text,
    right_padded,
)
from verify import verify_all

DATA, EVAL_DATA = "data", "data/eval.jsonl"        # what split writes and hero.py's presets read


# ---------------------------------------------------------------------------- training


def fit(model, batches, loss_of, steps, learning_rate, description, warmup=50, size_of=len,
        rows_at_once=None, ranks=None):
    """Minimises loss_of(model, batch) over an iterator of batches. -> the loss of every step

    AdamW, a linear warm-up and a linear decay to zero, gradients clipped to norm 1. With `ranks`
    all of them call this with the same batches and share the rows, whose number has to be divisible
    by theirs; without, this process trains alone. rows_at_once: of a rank, in one forward pass, all
    unless said. size_of(rows): over how much loss_of takes its mean; so the loss is the whole
    batch's mean however it is shared.
    """
    ranks = ranks or distributed.Ranks(0, 1, model.device)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.95),
                                  weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / warmup) * (1 - step / steps))
    losses = []
    model.train()
    with tqdm(range(steps), desc=description, mininterval=1, disable=ranks.rank > 0) as bar:
        for _ in bar:
            batch = next(batches)
            mine, total, loss = batch[ranks.rank::ranks.world_size], size_of(batch), 0.0
            optimizer.zero_grad()
            for start in range(0, len(mine), rows_at_once or len(mine)):
                rows = mine[start:start + (rows_at_once or len(mine))]
                # gradients are averaged over ranks: hence the factor
                part = loss_of(model, rows) * (size_of(rows) / total * ranks.world_size)
                part.backward()
                loss += part.item()
            if ranks.world_size > 1:
                distributed.clip_gradients(model, 1.0)
                loss = distributed.all_sum([loss]).item() / ranks.world_size
            else:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss)
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


def sft_rows(tokenizer, pairs, instruction=""):
    """(problem, response) pairs -> (prompt ids, response ids) with the end-of-sequence token."""
    return [(chat_prompt(tokenizer, problem, instruction),
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


def response_tokens(batch):
    """Over how many tokens sft_loss takes its mean."""
    return sum(len(response) for _, response in batch)


def english(text):
    """A rule of thumb: at least 0.95 of the letters are ASCII ones.

    It tells scripts from each other, Chinese from English, and not Latin languages.
    """
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter.isascii() for letter in letters) >= 0.95 * len(letters)


def use_of(text, reason, finished):
    """Whether the cold start takes a response: "usable", or why not."""
    if reason != "correct":
        return "wrong"
    return "unfinished" if not finished else "usable" if english(text) else "not English"


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


def fit_reward_model(reward_model, pairs, steps, batch_size, learning_rate, rng, center=0.005,
                     **options):
    """Bradley-Terry training (Eq. 1) of a RewardModel on (problem, chosen, rejected) rows.

    center * score^2 is added, since Eq. 1 leaves the scores' common offset free. options: those of
    fit. -> losses
    """
    rows = [(reward_model.token_ids(problem, chosen), reward_model.token_ids(problem, rejected))
            for problem, chosen, rejected in pairs]

    def loss_of(_, batch):
        scores = reward_model.forward([c for c, _ in batch] + [r for _, r in batch])   # (2B,)
        chosen, rejected = scores.float().chunk(2)
        return bradley_terry_loss(chosen, rejected) + center * scores.square().mean()

    reward_model.model.requires_grad_(True)
    losses = fit(reward_model.model, shuffled(rows, batch_size, rng), loss_of, steps,
                 learning_rate, "reward model", **options)
    reward_model.model.requires_grad_(False)
    return losses




# ---------------------------------------------------------------------------- problems


def draw(rows, count, seed):
    """A sample of `count` distinct problems of a stream, in random order; only it is in memory.

    A problem's place is a hash of the seed and its text, and the lowest places stay: the sample
    depends neither on the stream's order nor on repeats, and a larger one begins with a smaller.
    """
    kept, highest = {}, []                         # place: row; a heap of -place
    for row in rows:
        place = derive_seed(seed, "draw", row["problem"])
        if place in kept or len(kept) == count and place > -highest[0]:
            continue
        kept[place] = row
        heapq.heappush(highest, -place)
        if len(kept) > count:
            del kept[-heapq.heappop(highest)]
    return [kept[place] for place in sorted(kept)]


def write_manifest(folder, manifest):
    write_file(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")


# ---------------------------------------------------------------------------- textbook problems

TEXTBOOK_HUB = "MegaScience/TextbookReasoning"


NOT_AN_ANSWER = re.compile(r"\b(?:prove|proof|show that|explain|describe|discuss|justify|why|"
                           r"verify that|derive|sketch|draw)\b", re.I)


def textbook_rows(rows, count=750, seed=0):
    """A hard-to-verify benchmark from rows of TextbookReasoning, in a seeded order. -> rows

    The paper (A.2.3) keeps about 750 questions whose answers a rule verifier does not accept, that
    Llama-3.3-70B does not answer, and that GPT-4o finds clear, factual and no proofs; it does not
    say in what detail, nor which they are. Ours is a filter of our own: mathematics with a
    reference answer, no question that asks for a proof or an explanation, and none whose own worked
    answer the rule verifier accepts against the reference. No model filters, so that it is easier.
    """
    found = {row["question"]: row for row in rows
             if row["subject"] == "math" and (row["reference_answer"] or "").strip()
             and not NOT_AN_ANSWER.search(row["question"])}
    order, kept = sorted(found, key=lambda question: derive_seed(seed, question)), []
    while order and len(kept) < count:
        chunk, order = [found[question] for question in order[:1000]], order[1000:]
        verdicts = verify_all([row["answer"] for row in chunk],
                              [row["reference_answer"] for row in chunk])
        kept += [{"problem": row["question"], "answer": row["reference_answer"]}
                 for row, verdict in zip(chunk, verdicts, strict=True) if not verdict.correct]
    return kept[:count]


def textbook_command(parser):
    parser.add_argument("--source", default=TEXTBOOK_HUB, help="hub name, or a folder of its files")
    parser.add_argument("--count", type=int, default=750, help="rows to keep")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    parser.add_argument("--out", default=BENCHMARKS["textbook"].source, help="JSONL file to write")
    args = parser.parse_args()
    rows = textbook_rows(tqdm(stream_hub(args.source, "train"), "reading", mininterval=1),
                         args.count, args.seed)
    if not rows:
        raise ValueError(f"{args.source} has no row of mathematics that the filter keeps")
    write_file(args.out, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} of {args.count} rows written to {args.out}")


# ---------------------------------------------------------------------------- kept work


def digest(path):
    """A hash of a file's content, or of all files of a folder."""
    total = hashlib.blake2b(digest_size=16)
    for name in [path] if path.is_file() else sorted(path.rglob("*")):
        if name.is_file():
            with open(name, "rb") as file:
                total.update(hashlib.file_digest(file, "blake2b").digest())
    return total.hexdigest()


def revision_of(source):
    """What the source is now: the hub's commit, or a hash of the local file's or folder's content.

    Raises ValueError where the hub cannot be reached.
    """
    if Path(source).exists():
        return digest(Path(source))
    from huggingface_hub import dataset_info
    try:
        return dataset_info(source).sha
    except Exception as error:                     # the hub's own kinds are not all OSErrors
        raise ValueError(f"{source!r} is neither a local file or folder nor a hub dataset that can "
                         f"be reached from here ({first_line(error)})") from error


def claim(folder, settings, growing=()):
    """The manifest of an output folder, made now or by an earlier call of the same settings.

    Raises ValueError if the folder holds the work of other settings; those named in `growing` may
    change as long as that work is unfinished.
    """
    path, settings = folder / "manifest.json", json.loads(json.dumps(settings))
    if path.exists():
        manifest = json.loads(path.read_text())
        free = () if "done" in manifest else growing
        before = manifest["settings"]
        other = [name for name in before | settings
                 if name not in free and before.get(name) != settings.get(name)]
        if other:
            was, now = (", ".join(f"{name}={values.get(name)!r}" for name in other)
                        for values in (before, settings))
            raise ValueError(f"{folder} holds other work: {was}, where this is {now}; choose "
                             "another --out, or delete the folder")
    elif any((folder / name).exists() for name in ("easy.jsonl", "hard.jsonl", "config.json")):
        raise ValueError(f"{folder} holds files that prepare.py has not made: choose another --out")
    else:
        manifest = {}
    manifest["settings"] = settings
    write_manifest(folder, manifest)
    return manifest


def responses_to(problems, path, args, ranks, tokenizer, engine, samples=1):
    """Yields a record a problem, in order: the row with `samples` responses, each verified.

    A record: the problem's row | {"responses", "reasons", "finished"}, lists of length samples. All
    ranks get all records. They are kept in the JSONL file `path`, a batch at a time, and read back
    from it first; a torn last line is cut off. engine(): the engine, called when there is work.
    Raises ValueError if the file is of other problems, SystemExit after SIGTERM.
    """
    done = distributed.run_on_rank_0(lambda: whole_lines(path))
    with open(path, encoding="utf-8") as file:
        for row, line in zip(problems, islice(file, done), strict=False):
            record = json.loads(line)
            if record["problem"] != row["problem"] or len(record["responses"]) != samples:
                raise ValueError(f"{path} holds responses to other problems: delete it, or choose "
                                 "another --out")
            yield record
    bar = tqdm(total=len(problems), initial=done, desc="responses", disable=ranks.rank > 0)
    while done < len(problems):
        # batches end at the same places whenever the work was interrupted
        batch = problems[done:done - done % args.batch + args.batch]
        mine = batch[ranks.rank::ranks.world_size]
        rollouts = engine().generate(
            [chat_prompt(tokenizer, row["problem"], args.instruction) for row in mine], samples,
            SamplingParams(args.max_tokens, args.temperature),
            [derive_seed(args.seed, "response", row["problem"]) for row in mine])
        engine().sleep()                           # it may have been the last batch
        texts = [response_text(tokenizer, rollout) for rollout in rollouts]
        verdicts = verify_all(texts, [row["answer"] for row in mine for _ in range(samples)])
        records = distributed.gather_interleaved([
            row | {"responses": texts[i * samples:(i + 1) * samples],
                   "reasons": [v.reason for v in verdicts[i * samples:(i + 1) * samples]],
                   "finished": [r.finished for r in rollouts[i * samples:(i + 1) * samples]]}
            for i, row in enumerate(mine)])
        if ranks.rank == 0:
            with open(path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
        yield from records
        done += len(batch)
        bar.update(len(batch))
        if distributed.sigterm_received():
            if ranks.rank == 0:
                print(f"stopped by SIGTERM after {done} problems; the same command goes on",
                      flush=True)
            raise SystemExit(0)
    bar.close()


def whole_lines(path):
    """Cuts a torn last line off a JSONL file, which is made if there is none. -> its lines"""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, end = 0, 0
    with open(path, "ab+") as file:
        file.seek(0)
        for line in file:
            if line.endswith(b"\n"):
                count, end = count + 1, end + len(line)
        file.truncate(end)
    return count


def save(folder, model, tokenizer):
    """Writes a Hugging Face directory; config.json, without which nobody loads it, comes last."""
    weights = {name: tensor.cpu() for name, tensor in distributed.gathered_tensors(model)
               if torch.distributed.get_rank() == 0}
    if torch.distributed.get_rank() == 0:
        beside = folder / ".partial"
        shutil.rmtree(beside, ignore_errors=True)
        model.save_pretrained(beside, state_dict=weights)
        tokenizer.save_pretrained(beside)
        for path in sorted(beside.iterdir(), key=lambda path: path.name == "config.json"):
            os.replace(path, folder / path.name)
        beside.rmdir()
    torch.distributed.barrier()


# ---------------------------------------------------------------------------- the three stages

# flags that do not decide a stage's result: the others are its settings in manifest.json
FREE = {"engine", "batch", "rows_at_once", "shard", "gradient_checkpointing", "out"}


def settings_of(args):
    return {name: value for name, value in vars(args).items() if name not in FREE}


def fitting(problems, tokenizer, args):
    """The problems whose prompt is no longer than --max_prompt_tokens. ValueError if none is."""
    short = [row for row in problems if len(chat_prompt(
        tokenizer, row["problem"], args.instruction)) <= args.max_prompt_tokens]
    if not short:
        raise ValueError(f"every prompt is longer than --max_prompt_tokens {args.max_prompt_tokens}"
                         ": raise it")
    return short


def split(args, ranks, tokenizer, engine):
    """Problems by whether a response of the model passes the verifier: easy does, hard does not.

    Writes easy, hard and mixed (half of each) with --count problems each, eval.jsonl with
    --held_out others of either kind, and manifest.json. Stops sampling when there are enough.
    """
    out = Path(args.out)

    def sampled():
        path, old = out / "problems.jsonl", out / "manifest.json"
        if not args.revision and not Path(args.source).exists() and old.exists():
            args.revision = json.loads(old.read_text())["settings"].get("revision")
        args.revision = args.revision or revision_of(args.source)
        manifest = claim(out, settings_of(args), growing=("sample", "count"))
        if "done" in manifest and all((out / name).exists() and digest(out / name) == known
                                      for name, known in manifest["files"].items()):
            print(f"{out} is complete: nothing to do", flush=True)
            return None, manifest
        if not path.exists() or manifest.get("drawn") != args.sample:
            rows = draw(stream_problems(args.source, args.split, args.revision),
                        args.sample + args.held_out, args.seed)
            write_jsonl(path, fitting(rows, tokenizer, args))
            write_manifest(out, manifest | {"drawn": args.sample})
        return load_problems(path), manifest
    problems, manifest = distributed.run_on_rank_0(sampled)
    if problems is None:
        return
    held_out, problems = problems[:args.held_out], problems[args.held_out:]
    counts, rows = Counter(), {"easy": [], "hard": []}
    for record in responses_to(problems, out / "responses.jsonl", args, ranks, tokenizer, engine):
        reason = record["reasons"][0]
        counts[reason] += 1
        kept = rows["easy" if reason == "correct" else "hard"]
        if len(kept) < args.count:
            kept.append({key: record[key] for key in ("problem", "answer", "accepted")
                         if key in record} | {"reason": reason})
        if all(len(kept) == args.count for kept in rows.values()):
            break

    def written():
        easy, hard = rows.values()
        if min(len(easy), len(hard)) < args.count:
            raise ValueError(
                f"too few: {counts['correct']} of {counts.total()} problems are easy, the others "
                f"hard, and --count {args.count} wants so many of each: draw more problems by "
                f"--sample above {args.sample}, or lower --count; {out} keeps what was generated")
        half = args.count // 2
        files = rows | {"mixed": easy[:half] + hard[:args.count - half], "eval": held_out}
        random.Random(args.seed).shuffle(files["mixed"])
        for name, content in files.items():
            write_jsonl(out / f"{name}.jsonl", content)
        write_manifest(out, manifest | {
            "drawn": args.sample, "reasons": dict(sorted(counts.items())),
            "files": {f"{name}.jsonl": digest(out / f"{name}.jsonl") for name in files},
            "done": True})
        print(f"{out}: {args.count} problems each in easy, hard and mixed.jsonl, "
              f"{len(held_out)} in eval.jsonl; verdicts: {dict(counts.most_common())}", flush=True)
    distributed.run_on_rank_0(written)


def training_problems(args, ranks, tokenizer):
    """Problems of --data in an order of --seed's, and None if the stage is complete already."""
    def ordered():
        if "done" in claim(Path(args.out), settings_of(args)):
            print(f"{args.out} is complete: nothing to do", flush=True)
            return None
        problems = load_problems(args.data)
        return fitting(draw(problems, len(problems), args.seed), tokenizer, args)
    if args.batch_size % ranks.world_size:
        raise ValueError(f"--batch_size {args.batch_size} is not divisible by {ranks.world_size} "
                         f"ranks: choose a multiple of {ranks.world_size}")
    return distributed.run_on_rank_0(ordered)


def placed(model, args, ranks):
    """The model ready for training: sharded with FSDP2 where --shard says so. -> model"""
    model.requires_grad_(True)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if args.shard == "on" or args.shard == "auto" and ranks.device.type == "cuda":
        distributed.shard(model, type(model).forward)         # forward itself will do
        return model
    return model.to(ranks.device)


def schedule(args, ranks, rows):
    """(steps, the options of fit) for --epochs passes over `rows` rows, up to a whole batch."""
    steps = -(-args.epochs * rows // args.batch_size)
    return steps, {"warmup": max(1, steps // 10), "rows_at_once": args.rows_at_once,
                   "ranks": ranks}


def sft(args, ranks, tokenizer, engine):
    """The cold start: the model is trained on its own responses that are right, English, and stop.

    Stops sampling when there are --count of them. Writes a Hugging Face directory.
    """
    problems, out = training_problems(args, ranks, tokenizer), Path(args.out)
    if problems is None:
        return
    pairs, counts = [], Counter()
    for record in responses_to(problems, out / "responses.jsonl", args, ranks, tokenizer, engine,
                               args.samples):
        for text, reason, finished in dict.fromkeys(zip(
                record["responses"], record["reasons"], record["finished"], strict=True)):
            use = use_of(text, reason, finished)
            counts[use] += 1
            if use == "usable" and len(pairs) < args.count:
                pairs.append((record["problem"], text))
        if len(pairs) == args.count:
            break

    def enough():
        if not pairs:
            raise ValueError(f"no usable sample among {counts.total()} responses of {args.model} "
                             f"({dict(counts)}): one has to be right, English, and end by itself; "
                             "use other problems or a stronger model, or raise --max_tokens")
        if len(pairs) < args.count:
            print(f"note: only {len(pairs)} of --count {args.count} samples are usable; more --data"
                  " or --samples would give more", flush=True)
    distributed.run_on_rank_0(enough)
    rows = sft_rows(tokenizer, pairs, args.instruction)
    steps, options = schedule(args, ranks, len(rows))
    model = placed(from_pretrained(AutoModelForCausalLM, args.model, dtype=torch.float32), args,
                   ranks)
    losses = fit(model, shuffled(rows, args.batch_size, random.Random(args.seed)), sft_loss, steps,
                 args.learning_rate, "cold start", size_of=response_tokens, **options)
    finish(args, ranks, model, tokenizer, {"used": len(pairs), "responses": dict(counts),
                                           "losses": losses})


def rm(args, ranks, tokenizer, engine):
    """A reward model from verified responses of --model: its weights, and a new one-label head.

    The last --held_out share of the prompts that have both right and wrong responses is not trained
    on: the accuracy on their pairs and the AUROC of each group are measured on it. Writes a Hugging
    Face directory.
    """
    problems, out = training_problems(args, ranks, tokenizer), Path(args.out)
    if problems is None:
        return
    groups = [(record["problem"], record["responses"], [r == "correct" for r in record["reasons"]])
              for record in responses_to(problems[:args.count], out / "responses.jsonl", args,
                                         ranks, tokenizer, engine, args.samples)]
    mixed = [group for group in groups if 0 < sum(group[2]) < args.samples]
    last = max(1, round(len(mixed) * args.held_out))

    def start():
        if len(mixed) < 2:
            raise ValueError(f"{len(mixed)} of {len(groups)} problems have both right and wrong "
                             "responses, and pairs need two at least: use problems that the model "
                             "solves sometimes, or raise --samples or --count")
        torch.manual_seed(args.seed)
        model = from_pretrained(AutoModelForSequenceClassification, args.model, num_labels=1,
                                dtype=torch.float32)
        for part in (model, tokenizer):
            part.save_pretrained(out / ".start")
    distributed.run_on_rank_0(start)
    reward_model = RewardModel(out / ".start", "cpu")
    reward_model.model = placed(reward_model.model, args, ranks)
    rng = random.Random(args.seed)
    pairs, held_pairs = (preference_pairs(*zip(*part, strict=True), args.pairs, rng)
                         for part in (mixed[:-last], mixed[-last:]))
    steps, options = schedule(args, ranks, len(pairs))
    losses = fit_reward_model(reward_model, pairs, steps, args.batch_size, args.learning_rate, rng,
                              **options)
    # every rank scores everything: a sharded model needs all of them in every forward pass
    problems, chosen, rejected = zip(*held_pairs, strict=True)
    accuracy = (reward_model.score(problems, chosen) > reward_model.score(problems, rejected))
    aurocs = [auroc(reward_model.score([problem] * len(texts), texts), torch.tensor(correct))
              for problem, texts, correct in mixed[-last:]]
    finish(args, ranks, reward_model.model, tokenizer, {
        "prompts": len(groups), "mixed_prompts": len(mixed), "pairs": len(pairs),
        "held_out_prompts": last, "held_out_pairs": len(held_pairs),
        "pair_accuracy": accuracy.double().mean().item(), "auroc": sum(aurocs) / last,
        "losses": losses})
    if ranks.rank == 0:
        shutil.rmtree(out / ".start")


def finish(args, ranks, model, tokenizer, figures):
    """Saves what a stage has trained, and what it measured as manifest.json."""
    save(Path(args.out), model, tokenizer)
    if ranks.rank == 0:
        write_manifest(Path(args.out), {"settings": settings_of(args)} | figures | {"done": True})
        shown = {name: value for name, value in figures.items() if name != "losses"}
        losses = figures["losses"]
        print(f"{args.out}: {shown}, loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} "
              "steps", flush=True)


# ---------------------------------------------------------------------------- command line


STAGES = {"split": (split, "easy, hard and mixed problems, by whether a response of the model "
                    "passes the verifier"),
          "sft": (sft, "the cold start: train a model on its own right, English responses"),
          "rm": (rm, "train a reward model on verified responses of the model")}
BOTH, ALL = ("sft", "rm"), ("split", "sft", "rm")
FLAGS = [                                          # stages, name, default (of a stage), help
    (["split"], "source", SOURCE, "JSONL file of problems and answers, or a hub dataset"),
    (["split"], "split", "cot", "split of a hub dataset"),
    (["split"], "revision", "", "commit of a hub dataset (empty: the newest; it is recorded)"),
    (["split"], "sample", 40000, "distinct problems to draw from the source"),
    (["split"], "count", 2000, "problems in each file"),
    (["split"], "held_out", 200, "problems of eval.jsonl"),
    (BOTH, "data", "data/problems.jsonl", "JSONL file of problems and answers"),
    (["sft"], "count", 2000, "responses to train on"),
    (["rm"], "count", 2000, "problems to sample responses for"),
    (["rm"], "held_out", 0.1, "share of the problems with right and wrong responses to measure on"),
    (["rm"], "pairs", 4, "most pairs of a problem"),
    (BOTH, "samples", {"sft": 1, "rm": 8}, "responses to each problem"),
    (BOTH, "epochs", {"sft": 2, "rm": 1}, "passes over the responses or pairs"),
    (BOTH, "batch_size", 32, "responses or pairs of an optimizer step, over all ranks"),
    (BOTH, "rows_at_once", 1, "responses or pairs in one forward pass of a rank"),
    (BOTH, "learning_rate", 1e-5, "of AdamW, after a tenth of the steps as warm-up"),
    (BOTH, "shard", "auto", "FSDP2: on, off, or auto, which is on with GPUs"),
    (BOTH, "gradient_checkpointing", False, "keep only each layer's input for the backward pass"),
    (ALL, "instruction", STEP_BY_STEP, "text added to every problem in the prompt"),
    (ALL, "engine", "auto", "what generates: auto, vllm or transformers"),
    (ALL, "max_tokens", 8192, "longest response"),
    (ALL, "max_prompt_tokens", 1024, "longer prompts are left out"),
    (ALL, "temperature", 1.0, "sampling temperature"),
    (ALL, "batch", 512, "problems generated between two writes to the disk"),
    (ALL, "seed", 0, "decides the sample, every response and the order of training"),
    (ALL, "out", {"split": DATA, "sft": "sft", "rm": "reward_model"}, "folder to write")]


def parse(arguments=None):
    """The command line. ValueError names the flag at fault."""
    def error(message):
        raise ValueError(f"{message}; python prepare.py --help lists the stages, and python "
                         "prepare.py STAGE --help the flags of one")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.error = error
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for stage, (function, sentence) in STAGES.items():
        command = commands.add_parser(stage, help=sentence, allow_abbrev=False,
                                      description=function.__doc__.replace("\n    ", "\n"),
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        command.error = error
        command.add_argument("--model", required=True, metavar="VALUE",
                             help="directory or hub name, with a chat template")
        for stages, name, default, text in FLAGS:
            if stage in stages:
                value = default[stage] if isinstance(default, dict) else default
                kind = ({"action": "store_true"} if value is False else
                        {"type": type(value), "metavar": "VALUE"})
                command.add_argument(f"--{name}", default=value, **kind,
                                     help=f"{text} (default: {str(value).strip()})")
    args = parser.parse_args(arguments)
    for name, value in vars(args).items():
        if type(value) in (int, float) and name not in ("seed", "held_out") and not value > 0:
            raise ValueError(f"--{name} {value}: has to be above 0")
    if args.stage == "split" and args.held_out < 0 or args.stage == "rm" and not (
            0 < args.held_out < 1):
        raise ValueError(f"--held_out {args.held_out}: split wants a number of problems, rm a share"
                         " between 0 and 1")
    if vars(args).get("shard", "auto") not in ("auto", "on", "off"):
        raise ValueError(f"--shard {args.shard}: choose one of auto, on, off")
    resolve_engine(args.engine)
    return args


def main():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    ranks = distributed.init()
    args = distributed.run_on_rank_0(parse)
    tokenizer = load_tokenizer(args.model)
    engine = cache(lambda: make_engine(args.engine, args.model, tokenizer))
    STAGES[args.stage][0](args, ranks, tokenizer, engine)
    if engine.cache_info().currsize:
        engine().close()


if __name__ == "__main__":
    distributed.run(main)
