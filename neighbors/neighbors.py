"""HERO's neighbors: other methods on the same signals, a few lines each.

    python neighbors/neighbors.py                     a table: name, paper, a sentence on each
    python neighbors/neighbors.py rlpr --steps 30     trains with one; any flag of hero.py

A method takes the signals of a rollout batch and returns advantages. That is all that most of them
are: a function of a rewards.Batch, P prompts with G rollouts of each, to a (P, G) tensor. What else
a method needs it names in its entry in METHODS, and no other method pays for it:

    signals     what costs a forward pass; the numbers are in batch.signals
    loss        what replaces the clipped surrogate of hero.policy_loss
    leash       a penalty on the distance of whole responses from the initial policy
    refill      update only once there are enough groups that hold both verdicts

The last section makes a hero.Method of such an entry, which hero.train takes. To add a method,
write its function, and give it an entry in METHODS.

Numbers that a method carries from step to step are in batch.state, which is saved with each
checkpoint. The hyperparameters are the defaults of the method's function.

Each docstring gives the equation in this project's words: c is the verdict (0 or 1), s the reward
model's score, n the number of accepted rollouts of a group of G, mean and std those of the group.
"center" subtracts the group's mean, and "z-score" also divides by the group's population standard
deviation. Where something was simplified, it says so.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

if __name__ == "__main__":                        # the scripts are in the folder above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import distributed
import hero
import rewards
from distributed import derive_seed
from rewards import Advantages, RewardModel, group_advantages
from rollout import (
    Rollout,
    SamplingParams,
    chat_prompt,
    make_engine,
    response_text,
    right_padded,
)

EPS = 1e-6


@dataclass
class Batch(rewards.Batch):
    """What these methods see: also the longest length, what they asked for, and what they carry."""
    max_length: int | None = None                 # tokens at which a response is cut off
    signals: dict = field(default_factory=dict)   # {key of SIGNALS: (P, G) or (P, G, M)}
    state: dict = field(default_factory=dict)     # numbers carried from step to step


# ---------------------------------------------------------------------------- small tools


def update_mean(state, name, value, decay=0.9):
    """Moves the fading mean state[name] to a new value; the first one counts whole. -> the mean"""
    if name in state:
        value = decay * state[name] + (1 - decay) * value
    state[name] = value
    return value


def mixed_groups(batch):
    """Which groups hold both an accepted and a rejected rollout. -> (P,) bool"""
    accepted = batch.verified.mean(1)                                                     # (P,)
    return (accepted > 0) & (accepted < 1)


# ---------------------------------------------------------------------------- the verdict alone
#
# In a mixed group every method that subtracts the group's mean has the same direction, and they
# differ in a weight of the prompt: advantage = f(n) * (c / n - (1 - c) / (G - n)).
#
#     verifier   G p (1 - p) with p = n / G       Dr. GRPO, in rewards.py
#     rloo       the same times G / (G - 1)
#     grpo       G sqrt(p (1 - p))
#     maxrl      G (1 - p)
#     pacs       G^2 / (4 (G - 1)), the same for all n
#     passk      highest at few accepted rollouts, and 0 once fewer than k are rejected
#
# The others subtract a constant b instead: 0 (psr), 1 (nsr), 1 / (1 + lambda) (w_reinforce), the
# recall (forward), the batch's mean (reinforce_pp). Then a group that is all rejected still has
# advantages, -b each. Over all groups a constant adds nothing on average, only noise.


def grpo(batch):
    """GRPO, arXiv 2402.03300: the z-score of c. -> (P, G)"""
    return group_advantages(batch.verified, "std")


def rloo(batch):
    """RLOO, arXiv 2402.14740: c minus the mean of the other rollouts. -> (P, G)

    It is the reward "verifier" times G / (G - 1), a factor that AdamW's step ignores.
    """
    G = batch.verified.shape[1]
    mean_of_others = (batch.verified.sum(1, keepdim=True) - batch.verified) / max(1, G - 1)
    return batch.verified - mean_of_others


def reinforce_pp(batch):
    """REINFORCE++, arXiv 2501.03262: c minus the batch's mean, over the batch's std. -> (P, G)

    Simplified: the mean is over responses and not over tokens; the lengths hardly differ.
    """
    centered = batch.verified - batch.verified.mean()
    return centered / (batch.verified.std(correction=0) + EPS)


def signed_verdicts(batch, positive, negative):
    """Positive and negative sample reinforcement, arXiv 2506.01347: no baseline. -> (P, G)

        advantage = positive where c is 1, -negative where c is 0

    PSR is (1, 0), NSR (0, 1), and W-REINFORCE (lambda, 1). Simplified: the loss is a mean over all
    tokens, also those of the samples that PSR or NSR leaves out; it is a factor that AdamW ignores.
    """
    return torch.where(batch.verified > 0, positive, -negative)


def psr(batch):
    """PSR: accepted rollouts alone, each with advantage 1; see signed_verdicts. -> (P, G)"""
    return signed_verdicts(batch, 1.0, 0.0)


def nsr(batch):
    """NSR: rejected rollouts alone, each with advantage -1; see signed_verdicts. -> (P, G)"""
    return signed_verdicts(batch, 0.0, 1.0)


def w_reinforce(batch, positive=0.1):
    """W-REINFORCE: PSR with a small weight, and NSR; see signed_verdicts. -> (P, G)"""
    return signed_verdicts(batch, positive, 1.0)


def maxrl(batch):
    """MaxRL, arXiv 2602.02710: (c - mean) / mean. -> (P, G)

    On-policy this is the gradient of the log-likelihood of success, truncated at order G. The paper
    has G = 128; a group of 8 truncates it harder.
    """
    mean = batch.verified.mean(1, keepdim=True)                                           # (P, 1)
    return (batch.verified - mean) / (mean + EPS)


def passk(batch, k=4):
    """Pass@k training, arXiv 2508.10751: the reward is that of all subsets of size k. -> (P, G)

        mean = 1 - C(G - n, k) / C(G, k)         std = sqrt(mean (1 - mean))
        accepted   (1 - mean) / std
        rejected   (1 - mean - C(G - n - 1, k - 1) / C(G - 1, k - 1)) / std

    0 once fewer than k rollouts are rejected: then every subset holds an accepted one. In a group
    smaller than k, k is the group's size.
    """
    G = batch.verified.shape[1]
    k = min(k, G)

    # The advantage of either verdict for every possible n, and then each rollout's own.
    of_accepted = []
    of_rejected = []
    for n in range(G + 1):
        failure = math.comb(G - n, k) / math.comb(G, k)                  # 1 - mean
        std = math.sqrt(failure * (1 - failure))
        others_fail = math.comb(max(0, G - n - 1), k - 1) / math.comb(G - 1, k - 1)
        of_accepted.append(failure / std if std else 0.0)
        of_rejected.append((failure - others_fail) / std if std else 0.0)

    n = batch.verified.sum(1, keepdim=True).long()                                        # (P, 1)
    return torch.where(batch.verified > 0, torch.tensor(of_accepted)[n],
                       torch.tensor(of_rejected)[n])


def pacs(batch):
    """PACS, arXiv 2509.02522: supervised learning of the verdict, balanced over classes. -> (P, G)

        u = w (c - 1/2), w = G / (2 n) if accepted, else G / (2 (G - n))
        advantage = (G u - sum of u) / (G - 1)

    Simplified: the paper's 1/2 is the sigmoid of how much likelier a response became since it was
    sampled, which is computed again within a batch. Here it stays where it begins.
    """
    verified = batch.verified
    G = verified.shape[1]
    n = verified.sum(1, keepdim=True)                                                     # (P, 1)
    weight = torch.where(verified > 0, G / (2 * n), G / (2 * (G - n)))
    u = torch.where(mixed_groups(batch)[:, None], weight * (verified - 0.5), 0.0)
    return (G * u - u.sum(1, keepdim=True)) / max(1, G - 1)


def soft_overlong(batch, share=0.2):
    """DAPO's soft overlong punishment, arXiv 2503.14476. -> (P, G) between -1 and 0

    0 up to (1 - share) of the longest response allowed, and from there linearly down to -1.
    """
    buffer = share * batch.max_length
    return ((batch.max_length - buffer - batch.lengths) / buffer).clamp(-1, 0)


def dapo(batch):
    """DAPO, arXiv 2503.14476: the z-score of c + soft_overlong, in mixed groups alone. -> (P, G)

    Its entry asks for a refill, see refill. Clipping higher above and the mean over tokens are this
    project's default.
    """
    advantages = group_advantages(batch.verified + soft_overlong(batch), "std")
    return torch.where(mixed_groups(batch)[:, None], advantages, 0.0)


# ---------------------------------------------------------------------------- a noisy verifier


def miss_rates(batch, decay=0.9):
    """How likely the verifier rejects a right response, estimated as training goes. -> (P, 1)

    The online estimate of arXiv 2510.00915: a second judge hears appeals, and
    rate = recovered / (recovered + accepted), of counts that fade. Here the judge is the reward
    model. It grants the appeal of a rejected response whose score is above the fading mean of the
    accepted ones. About half of the right ones pass that bar, so each stands for two. Wrong
    responses with high scores pass too, so the rate comes out high rather than low.

    Problems are of two kinds, each with its own rate: those whose reference answer has a digit, and
    the others. Each kind begins with one accepted and one recovered response.
    """
    has_digit = torch.tensor([any(character.isdigit() for character in row["answer"])
                              for row in batch.problems])                                 # (P,)
    rates = torch.zeros(len(has_digit), 1)                                                # (P, 1)
    for kind, members in (("digits", has_digit), ("words", ~has_digit)):
        if not members.any():
            continue

        # The appeals of this batch. Nothing is above the bar before a first response is accepted.
        is_accepted = batch.verified[members] > 0
        scores = batch.rm_scores[members]
        accepted = is_accepted.sum().item()
        if accepted:
            update_mean(batch.state, f"bar_{kind}", scores[is_accepted].mean().item())
        bar = batch.state.get(f"bar_{kind}", math.inf)
        recovered = 2 * (~is_accepted & (scores > bar)).sum().item()

        # Counts of all batches, the older the less.
        fading = {}
        for name, count in (("accepted", accepted), ("recovered", recovered)):
            key = f"{name}_{kind}"
            fading[name] = decay * batch.state.get(key, 1.0) + count
            batch.state[key] = fading[name]
        rates[members] = fading["recovered"] / (fading["recovered"] + fading["accepted"])
    return rates


def backward(batch):
    """Backward noise correction, arXiv 2510.00915: center c / (1 - miss rate). -> (P, G)

    In expectation the corrected verdict is the truth, for a verifier that accepts nothing wrong.
    Where all problems have the same rate it is the reward "verifier" times a constant.
    """
    return group_advantages(batch.verified / (1 - miss_rates(batch)).clamp(min=0.05))


def forward(batch):
    """Forward noise correction, arXiv 2510.00915: c - (1 - miss rate), no group mean. -> (P, G)

    In expectation it is 0 for a right response and negative for a wrong one. After any centering it
    would be the reward "verifier" exactly, so how the paper combines it with GRPO is left out.
    """
    return batch.verified - (1 - miss_rates(batch))


# ---------------------------------------------------------------------------- verdict and score


def heron(batch, margin=0.0):
    """HERON's ordering, arXiv 2309.02632: by verdict, and only among equals by score. -> (P, G)

    reward = share of the group that a rollout beats, ties half; scores tie if they differ by at
    most margin times the group's std. Simplified: HERON trains a reward model on such comparisons
    and uses its scores; here the comparisons within a group are the reward.
    """
    by_verdict = batch.verified[:, :, None] - batch.verified[:, None, :]               # (P, G, G)
    by_score = batch.rm_scores[:, :, None] - batch.rm_scores[:, None, :]               # (P, G, G)
    tie = margin * batch.rm_scores.std(1, correction=0)[:, None, None]                 # (P, 1, 1)
    by_score = torch.where(by_score.abs() > tie, by_score.sign(), 0.0)

    # 1 where rollout i beats rollout j, -1 where it loses. The verdict decides where they differ.
    outcome = torch.where(by_verdict != 0, by_verdict.sign(), by_score)
    return group_advantages(outcome.mean(2) / 2)


def papo(batch, share=1.0):
    """PAPO, arXiv 2603.26535: z-score of c, and of s among the accepted alone. -> (P, G)

        advantage = z-score of c + share * (z-score of s over accepted rollouts; 0 if rejected)

    The reward model's score stands in for the paper's score of the working by a rubric.
    """
    scores, accepted = batch.rm_scores, batch.verified

    # Mean and std of the scores of the accepted rollouts. Where there is only one, it is the mean,
    # and so its deviation is 0.
    count = accepted.sum(1, keepdim=True).clamp(min=1)                                    # (P, 1)
    mean = (scores * accepted).sum(1, keepdim=True) / count                               # (P, 1)
    deviation = (scores - mean) * accepted                                                # (P, G)
    std = ((deviation ** 2).sum(1, keepdim=True) / count).sqrt()                          # (P, 1)
    return group_advantages(batch.verified, "std") + share * deviation / (std + EPS)


def gdpo(batch, share=1.0):
    """GDPO, arXiv 2601.05242: each reward is normalized, and then their sum. -> (P, G)

        a = z-score of c + share * z-score of s;  advantage = (a - batch mean) / batch std
    """
    total = group_advantages(batch.verified, "std") + share * group_advantages(batch.rm_scores,
                                                                              "std")
    return (total - total.mean()) / (total.std(correction=0) + EPS)


def gated(batch, share=0.1):
    """Gated reward accumulation, arXiv 2508.10548: center c (1 + share * sigmoid(s)). -> (P, G)

    The lower reward counts only where the higher one is won. Simplified: the paper gates the
    rewards of an agent's steps.
    """
    return group_advantages(batch.verified * (1 + share * torch.sigmoid(batch.rm_scores)))


def concise(batch, share=0.1):
    """Conciseness reward function, arXiv 2511.09158: center c (1 + share * brevity). -> (P, G)

    Simplified: brevity is 1 - length / longest allowed, where the paper has a trained model's score
    of conciseness, and scales it by a problem's difficulty and over the run.
    """
    brevity = 1 - batch.lengths / batch.max_length
    return group_advantages(batch.verified * (1 + share * brevity))


def clip(batch, share=0.05):
    """Clip, arXiv 2410.15115: center c + share * min(s - eta, 0), a bonus bounded above. -> (P, G)

    Simplified: the paper clips the score of each step. The whole response has one score here, and
    eta is the fading mean of those of accepted rollouts (no clip before the first of them).
    """
    accepted = batch.rm_scores[batch.verified > 0]
    if len(accepted):
        update_mean(batch.state, "eta", accepted.mean().item())
    eta = batch.state.get("eta", math.inf)
    return group_advantages(batch.verified + share * batch.rm_scores.clamp(max=eta))


def naive_narrow(batch, share=0.05):
    """The naive sum at the scale of HERO's band: center c + share * s. -> (P, G)

    A control of this project. The scores' std is about 2, so the bonus spans about what alpha =
    0.05 allows: the width without the strata.
    """
    return group_advantages(batch.verified + share * batch.rm_scores)


# ---------------------------------------------------------------------------- the score alone


def par(batch, k=1.0):
    """PAR, arXiv 2502.18770: center the mean of sigmoid(k (s - s of the initial policy)). -> (P, G)

    Steep at first and flat where a response is already better than the initial policy's. Division
    by the group's std would undo that.
    """
    difference = batch.rm_scores[:, :, None] - batch.signals["initial_scores"]         # (P, G, M)
    return group_advantages(torch.sigmoid(k * difference).mean(2))


def rm_overlong(batch):
    """The score with a guard against length: center s + soft_overlong. -> (P, G)

    A control of this project: the cheapest guard against a hack that runs to the longest length.
    """
    return group_advantages(batch.rm_scores + soft_overlong(batch))


def standardized_members(batch):
    """The scores of K reward models in one unit. -> (P, G, K)

    Scores that were trained on pairs have no common zero or scale. So each model is standardized by
    its own mean and std on the first batch, the responses of the policy before training.
    """
    scores = torch.cat([batch.rm_scores[:, :, None], batch.signals["members"]], 2)     # (P, G, K)

    # The policy has not been updated before the first batch.
    if "member_means" not in batch.state:
        batch.state["member_means"] = scores.mean((0, 1)).tolist()
        batch.state["member_stds"] = scores.std((0, 1), correction=0).tolist()
    mean = torch.tensor(batch.state["member_means"])                                      # (K,)
    std = torch.tensor(batch.state["member_stds"])                                        # (K,)
    return (scores - mean) / (std + EPS)


def ensemble_mean(batch):
    """Center the mean of K reward models' scores, arXiv 2310.02743. -> (P, G)"""
    return group_advantages(standardized_members(batch).mean(2))


def ensemble_worst(batch):
    """Worst-case optimization, arXiv 2310.02743: center the lowest of K scores. -> (P, G)"""
    return group_advantages(standardized_members(batch).amin(2))


def ensemble_uncertain(batch, penalty=0.1):
    """Uncertainty-weighted optimization, arXiv 2310.02743: center mean - penalty * variance of K
    scores, the sample variance. -> (P, G)"""
    members = standardized_members(batch)
    return group_advantages(members.mean(2) - penalty * members.var(2))


def ensemble_robust(batch, trust=0.3):
    """Reward-robust RLHF, arXiv 2409.15360. -> (P, G)

    Center trust * nominal + (1 - trust) * lowest of K scores.
    Simplified: the nominal score is the mean of the members, where the paper has heads that predict
    their own uncertainty and takes the surest one.
    """
    members = standardized_members(batch)
    return group_advantages(trust * members.mean(2) + (1 - trust) * members.amin(2))


def filtered(batch, of_best, of_worst):
    """Policy filtration, arXiv 2409.06957: train on one rollout per group, by rank. -> (P, G)

        advantage = G * probability of the rank * centered s

    of_best, of_worst: probabilities of the highest and the lowest score; the others share the rest.
    Simplified: nothing is drawn. The factor has the same expectation and less noise.
    """
    P, G = batch.rm_scores.shape

    # The probabilities by rank, and then of each rollout by its rank.
    probability = torch.full((G,), (1 - of_best - of_worst) / max(1, G - 2))              # (G,)
    probability[0] = of_best
    probability[-1] = of_worst
    best_first = torch.argsort(batch.rm_scores, dim=1, descending=True, stable=True)      # (P, G)
    of_rollout = torch.zeros(P, G).scatter(1, best_first, probability.expand(P, G))
    return G * of_rollout * group_advantages(batch.rm_scores)


def filter_best_random(batch):
    """Policy filtration that draws the best with 1/2, else any other; see filtered. -> (P, G)"""
    G = batch.rm_scores.shape[1]
    return filtered(batch, 0.5, 0.5 / max(1, G - 1))


def filter_best_worst(batch):
    """Policy filtration that draws the best or the worst, 1/2 each; see filtered. -> (P, G)"""
    return filtered(batch, 0.5, 0.5)


def filter_best(batch):
    """Policy filtration that keeps the best of G alone; see filtered. -> (P, G)"""
    return filtered(batch, 1.0, 0.0)


# ---------------------------------------------------------------------------- the reference answer


def rlpr(batch, threshold=0.5):
    """RLPR, arXiv 2506.18254: how much the working raises the reference's probability. -> (P, G)

        reward = clip(q - q0, 0, 1);  advantage = z-score of the reward

    q is the mean probability of the reference answer's tokens after the response's working, q0 the
    same without working. A group whose std is below threshold * the fading mean of all groups' std
    is left out. Simplified: left-out groups are not replaced, q0 is of the policy as it is now, and
    the format has no reward of its own: without a box q is 0.
    """
    q, q0 = batch.signals["reference_probability"].unbind(2)                              # (P, G)
    rewards = (q - q0).clamp(0, 1)

    # A group whose rewards hardly differ is left out.
    std = rewards.std(1, correction=0)                                                    # (P,)
    usual = update_mean(batch.state, "rlpr_std", std.mean().item())
    wide = std >= threshold * usual                                                       # (P,)
    return torch.where(wide[:, None], group_advantages(rewards, "std"), 0.0)


# ---------------------------------------------------------------------------- signals
#
# What costs a forward pass. SIGNALS holds one function per signal: (cfg, models) -> a function of
# this rank's problems and the texts of their G responses, lists of lists, that returns a list per
# problem of a number or a list of numbers per response. In a Batch it is (P, G) or (P, G, M).

BOX = "\\boxed{"


def make_reference_probability(cfg, models):
    """How probable the policy finds the reference answer: [after the working, without any].

    Mean probabilities of the answer's tokens, at temperature 1, right after the last "\\boxed{" of
    the response and right after a box that follows the prompt. 0 for a response without a box.
    One forward pass per prompt, so that all ranks run equally many. Working and reference are
    tokenized apart: exact unless the tokenizer joins the brace to what follows it.
    """
    device = models.policy.device

    def token_ids(text):
        return models.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def of_prompt(problem, texts):
        # Each row is what comes before the answer, and the answer.
        prompt_ids = chat_prompt(models.tokenizer, problem["problem"], cfg.instruction)
        answer = token_ids(problem["answer"])
        rows = []
        has_box = []
        for text in [*texts, BOX]:                 # the last row has no working
            working, box, _ = text.rpartition(BOX)
            rows.append(prompt_ids + token_ids(working + box) + answer)
            has_box.append(box != "")

        # The mean probability of the answer's tokens, the last of each row.
        ids, real = right_padded(rows)                                                # (G + 1, T)
        answer_start = real.sum(1, keepdim=True) - len(answer)                        # (G + 1, 1)
        mask = real * (torch.arange(ids.shape[1]) >= answer_start)                    # (G + 1, T)
        logp = models.logprobs(ids.to(device), mask.to(device)).cpu()                 # (G + 1, T)
        probability = (logp.exp() * mask).sum(1) / len(answer)                        # (G + 1,)
        probability = torch.where(torch.tensor(has_box), probability, 0.0).tolist()
        return [[value, probability[-1]] for value in probability[:-1]]

    return lambda problems, texts: list(map(of_prompt, problems, texts))


def make_initial_scores(cfg, models, count=1):
    """The reward model's scores of `count` responses of the initial policy to each problem.

    They are sampled with transformers, by a seed of the problem's text: the same whenever and on
    whichever rank the problem is met. All responses to a problem are compared with the same scores.
    """
    engine = make_engine("transformers", cfg.policy, models.tokenizer)
    params = SamplingParams(cfg.max_response_tokens, cfg.temperature)

    def initial_scores(problems, texts):
        questions = [problem["problem"] for problem in problems]
        prompts = [chat_prompt(models.tokenizer, each, cfg.instruction) for each in questions]
        seeds = [derive_seed(cfg.seed, "initial", each) for each in questions]
        samples = engine.generate(prompts, count, params, seeds)
        scores = models.reward_model.score(
            [each for each in questions for _ in range(count)],
            [response_text(models.tokenizer, sample) for sample in samples]).tolist()
        return [[scores[p * count:(p + 1) * count]] * len(group) for p, group in enumerate(texts)]

    return initial_scores


def member_folders(cfg):
    """The folders REWARD_MODEL-1, REWARD_MODEL-2 and so on. ValueError if there is none."""
    first = Path(cfg.reward_model or f"runs/world-{cfg.world_seed}/reward_model")
    folders = sorted(first.parent.glob(f"{first.name}-*"))
    if not folders:
        raise ValueError(f"{cfg.reward} needs further reward models in the folders {first}-1, "
                         f"{first}-2 and so on, and there are none")
    return folders


def make_members(cfg, models):
    """The scores of the other members of an ensemble: reward models in folders beside the first.

    They are loaded as the first one was.
    """
    first = models.reward_model
    dtype = next(first.model.parameters()).dtype
    members = [RewardModel(folder, first.model.device, dtype, first.system, first.max_tokens)
               for folder in member_folders(cfg)]

    def member_scores(problems, texts):
        G = len(texts[0])
        questions = [problem["problem"] for problem in problems for _ in range(G)]
        responses = [text for group in texts for text in group]
        scores = torch.stack([member.score(questions, responses) for member in members], 1)
        return scores.view(len(problems), G, -1).tolist()                             # (P, G, M)

    return member_scores


SIGNALS = {"reference_probability": make_reference_probability,
           "initial_scores": make_initial_scores,
           "members": make_members}


# ---------------------------------------------------------------------------- losses
#
# A loss here replaces the clipped surrogate in hero.policy_loss: (log_ratio, advantages, mask) ->
# the loss of each token. log_ratio (B, T): log-probability now minus when sampled, 0 where the mask
# is. advantages (B, 1), mask (B, T).


def gspo(log_ratio, advantages, mask, low=0.02, high=0.027):
    """GSPO, arXiv 2507.18071: one ratio per response, the geometric mean of its tokens'. -> (B, T)

    low, high: the ratio is clipped to 1 - low and 1 + high. The paper's 3e-4 and 4e-4 are for
    responses of a thousand tokens; the mean over thirty moves more. Simplified: a response weighs
    by its length; the lengths hardly differ.
    """
    length = mask.sum(1, keepdim=True).clamp(min=1)                                       # (B, 1)
    ratio = torch.exp(log_ratio.sum(1, keepdim=True) / length)                            # (B, 1)
    clipped = ratio.clamp(1 - low, 1 + high)
    return -torch.minimum(ratio * advantages, clipped * advantages).expand_as(log_ratio)


def cispo(log_ratio, advantages, mask, high=0.2):
    """CISPO, arXiv 2506.13585: the clipped ratio is a weight without gradient. -> (B, T)

        loss = -min(ratio, 1 + high) * advantage * log-probability

    So no token loses its gradient. log_ratio stands for the log-probability, with the same slope.
    """
    weight = log_ratio.detach().exp().clamp(max=1 + high)                                 # (B, T)
    return -weight * advantages * log_ratio


def surrogate_loss(surrogate, logp, old_logp, advantages, mask, num_tokens, **settings):
    """hero.policy_loss with another surrogate. -> (loss, the same statistics)"""
    with torch.no_grad():
        _, stats = hero.policy_loss(logp, old_logp, advantages, mask, num_tokens, **settings)

    token_loss = surrogate((logp - old_logp) * mask, advantages[:, None], mask)           # (B, T)
    if settings["importance"] is not None:
        token_loss = token_loss * settings["importance"]
    if settings["ref_logp"] is not None:
        kl = hero.k3((settings["ref_logp"] - logp) * mask)                                # (B, T)
        token_loss = token_loss + settings["kl_coef"] * kl
    return (token_loss * mask).sum() / num_tokens, stats


LOSSES = {"clipped": hero.policy_loss,
          "gspo": partial(surrogate_loss, gspo),
          "cispo": partial(surrogate_loss, cispo)}

# ---------------------------------------------------------------------------- leashes

# The weight of a leash in the loss. The policy's loss is a mean over tokens, the leash over
# responses.
LEASH_COEF = 0.02


def bounded_exp(x, limit=10.0):
    """e^x, continued as a straight line above the limit."""
    below = x.clamp(max=limit)
    return torch.exp(below) * (1 + x - below)


def kl_terms(d):
    """The k3 estimate of KL from whole responses: its mean over responses is the KL. -> (B,)

    d (B,): log-probability of a response under the policy, minus under the initial one.
    """
    return d + bounded_exp(-d) - 1


def chi2_terms(d):
    """Chi-squared divergence of the policy from the initial one, from whole responses. -> (B,)

    Its mean over responses, of e^d - 1 + e^-d - 1: at least the divergence, and never negative.
    """
    return bounded_exp(d) + bounded_exp(-d) - 2


LEASHES = {"kl": kl_terms, "chi2": chi2_terms}


def response_log_ratio(logp, ref_logp, mask):
    """How much likelier whole responses are than under the initial policy, in nats. -> (B,)"""
    return ((logp - ref_logp) * mask).sum(1)


def leash_slope(leash, cfg, models, minibatch, size):
    """The factor of a leash's terms in the loss, for an optimizer step of `size` responses.

    1 for kl. The penalty of arXiv 2403.03185 is sqrt(chi2), and a root of a mean cannot be summed
    over micro-batches. So chi2 is first computed on the whole step without gradient, which costs a
    forward pass, and the factor is the root's slope there: 1 / (2 sqrt(chi2)), or 0 below 1e-4.
    minibatch: this rank's hero.MicroBatch objects.
    """
    if leash != "chi2":
        return 1.0
    total = 0.0
    with torch.no_grad():
        for b in minibatch:
            logp = models.logprobs(b.ids, b.mask, cfg.temperature)
            total += chi2_terms(response_log_ratio(logp, b.ref_logp, b.mask)).sum().item()
    chi2 = distributed.all_sum(total).item() / size
    if chi2 < 1e-4:
        return 0.0
    return 1 / (2 * math.sqrt(chi2))


def leashed_step(leash, cfg, ranks, models, optimizer, minibatch, sums):
    """hero.take_step with a leash in the loss: a mean over the responses of the optimizer step."""
    size = cfg.prompts_per_step * cfg.rollouts_per_prompt // cfg.num_minibatches
    slope = leash_slope(leash, cfg, models, minibatch, size)

    def loss_of(logp, old_logp, advantages, mask, num_tokens, **settings):
        loss, stats = hero.policy_loss(logp, old_logp, advantages, mask, num_tokens, **settings)
        log_ratio = response_log_ratio(logp, settings["ref_logp"], mask)                  # (B,)
        terms = LEASHES[leash](log_ratio)                                                 # (B,)
        pull = LEASH_COEF * slope * terms.sum()
        return loss + pull * ranks.world_size / size, stats        # gradients are averaged

    return hero.take_step(cfg, ranks, models, optimizer, minibatch, sums, loss_of)


# ---------------------------------------------------------------------------- refill


def refill(state, rollouts, advantages):
    """DAPO's dynamic sampling, arXiv 2503.14476: an update needs a full batch of mixed groups.

    rollouts: those of P prompts, G of each, in order. advantages (P, G): 0 in all of a group that
    is to be replaced. The other groups wait in `state` until there are P of them.
    -> (rollouts, advantages (P * G,)) to update with, or ([], None) while there are too few

    The paper samples on within a step. Here each round of sampling is a step of its own, and the
    policy rests until the groups suffice: the same samples and updates, and runs of equally many
    steps have cost equally many rollouts. As in the paper, groups beyond P are thrown away.
    """
    P, G = advantages.shape

    # Groups as plain data, so that a checkpoint can hold them.
    waiting = state.setdefault("waiting", [])
    for p in range(P):
        if advantages[p].any():
            group = [asdict(rollout) for rollout in rollouts[p * G:(p + 1) * G]]
            waiting.append({"rollouts": group, "advantages": advantages[p].tolist()})
    if len(waiting) < P:
        return [], None

    # Enough of them: the first P.
    state["waiting"] = []
    chosen_rollouts = []
    chosen_advantages = []
    for group in waiting[:P]:
        chosen_rollouts += [Rollout(**rollout) for rollout in group["rollouts"]]
        chosen_advantages += group["advantages"]
    return chosen_rollouts, torch.tensor(chosen_advantages)


# ---------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Entry:
    """What a method is made of. Either `function` or `reward` is given."""
    paper: str                                    # arXiv number; "" where there is none
    summary: str                                  # one sentence
    function: Callable | None = None              # (Batch) -> advantages (P, G)
    reward: str = ""                              # or the key of REWARDS whose advantages it takes
    signals: tuple[str, ...] = ()                 # keys of SIGNALS
    loss: str = "clipped"                         # key of LOSSES
    leash: str = ""                               # key of LEASHES
    refill: bool = False                          # whether groups without advantages are replaced

    def __post_init__(self):
        if not (callable(self.function) or (self.function is None and self.reward)):
            raise TypeError(f"an entry has a paper, a summary, and then a function or a reward, "
                            f"not {self.function!r}")


METHODS = {
    # the verdict alone
    "grpo": Entry("2402.03300", "the verdict, divided by the group's standard deviation", grpo),
    "rloo": Entry("2402.14740", "the verdict minus the mean of the others: the same as verifier",
                  rloo),
    "reinforce_pp": Entry("2501.03262", "the batch's mean and standard deviation, not the group's",
                          reinforce_pp),
    "psr": Entry("2506.01347", "accepted samples alone are reinforced, without a baseline", psr),
    "nsr": Entry("2506.01347", "rejected samples alone are suppressed, without a baseline", nsr),
    "w_reinforce": Entry("2506.01347", "nsr, and psr with a tenth of the weight", w_reinforce),
    "maxrl": Entry("2602.02710", "prompts weigh by how rarely they are solved", maxrl),
    "passk": Entry("2508.10751", "rewards sets of k samples that hold an accepted one", passk),
    "pacs": Entry("2509.02522", "classification of the verdict: all mixed prompts weigh the same",
                  pacs),
    "dapo": Entry("2503.14476", "mixed groups alone, replaced until the batch is full; overlong "
                  "responses are punished", dapo, refill=True),
    "gspo": Entry("2507.18071", "the verdict, with one clipped ratio per response",
                  reward="verifier", loss="gspo"),
    "cispo": Entry("2506.13585", "the verdict, with the clipped ratio as a weight",
                   reward="verifier", loss="cispo"),
    # a noisy verifier
    "backward": Entry("2510.00915", "the verdict divided by the recall, estimated for both kinds "
                      "of problems", backward),
    "forward": Entry("2510.00915", "the verdict minus the recall, estimated; no group mean",
                     forward),
    # verdict and score
    "heron": Entry("2309.02632", "ordered by verdict, among equals by score; the rank counts",
                   heron),
    "papo": Entry("2603.26535", "z-score of the verdict, and of the score among the accepted",
                  papo),
    "gdpo": Entry("2601.05242", "verdict and score are normalized one by one, then added", gdpo),
    "gated": Entry("2508.10548", "the score is a bonus on accepted responses alone", gated),
    "concise": Entry("2511.09158", "brevity is a bonus on accepted responses alone", concise),
    "clip": Entry("2410.15115", "verdict and a small score that is bounded above", clip),
    "naive_narrow": Entry("", "control: verdict + 0.05 * score, as wide as HERO's band",
                          naive_narrow),
    "hero_kl": Entry("", "control: HERO with a leash, the KL of whole responses",
                     reward="hero", leash="kl"),
    # the score alone
    "rm_kl": Entry("", "control: the score with a leash, the KL of whole responses", reward="rm",
                   leash="kl"),
    "rm_chi2": Entry("2403.03185", "the score with a leash, the root of chi-squared", reward="rm",
                     leash="chi2"),
    "rm_overlong": Entry("", "control: the score, with long responses punished", rm_overlong),
    "par": Entry("2502.18770", "how surely the score beats that of the initial policy's response",
                 par, signals=("initial_scores",)),
    "ensemble_mean": Entry("2310.02743", "the mean score of several reward models", ensemble_mean,
                           signals=("members",)),
    "ensemble_worst": Entry("2310.02743", "the lowest score of several reward models",
                            ensemble_worst, signals=("members",)),
    "ensemble_uncertain": Entry("2310.02743", "the mean score minus a tenth of the variance",
                                ensemble_uncertain, signals=("members",)),
    "ensemble_robust": Entry("2409.15360", "between the mean and the lowest score",
                             ensemble_robust, signals=("members",)),
    "filter_best_random": Entry("2409.06957", "the best score and one other of a group",
                                filter_best_random),
    "filter_best_worst": Entry("2409.06957", "the best and the worst score of a group",
                               filter_best_worst),
    "filter_best": Entry("2409.06957", "the best score of a group alone", filter_best),
    # the reference answer
    "rlpr": Entry("2506.18254", "how probable the working makes the reference answer", rlpr,
                  signals=("reference_probability",)),
}


# ---------------------------------------------------------------------------- into hero's loop

# What the log says of a step without an update.
NO_UPDATE = {"policy/entropy": None, "policy/gradient_norm": None, "rollout/logprob_gap": None}


def make_method(name):
    """The hero.Method of an entry of METHODS: what hero.train takes."""
    entry = METHODS[name]
    state = {}
    signals = {}                                  # name: function, made at the first step

    def advantages_of(cfg, models, batch, sigma_bar):
        if entry.function is None:
            return hero.hero_advantages(replace(cfg, reward=entry.reward), models, batch, sigma_bar)
        for signal in entry.signals:
            if signal not in signals:
                signals[signal] = SIGNALS[signal](cfg, models)
        batch = Batch(**vars(batch), max_length=cfg.max_response_tokens, state=state,
                      signals={name: of_all_groups(signals[name], batch) for name in signals})

        # The reward is the advantage itself, and the weight 1.
        values = entry.function(batch)                                                    # (P, G)
        sigma = batch.rm_scores.std(1, correction=0)                                      # (P,)
        return Advantages(values, sigma, torch.ones_like(sigma), values, values)

    def update_with(cfg, ranks, models, optimizer, rollouts, advantages):
        take_step = partial(hero.take_step, loss_of=LOSSES[entry.loss])
        if entry.leash:
            take_step = partial(leashed_step, entry.leash)
        stats = NO_UPDATE
        if entry.refill:
            rollouts, advantages = refill(state, rollouts, advantages)
        if rollouts:
            stats = hero.update(cfg, ranks, models, optimizer, rollouts, advantages, take_step)
        numbers = {f"method/{key}": value for key, value in state.items()
                   if isinstance(value, float)}
        return stats | numbers

    return hero.Method(
        rewards=METHODS,
        advantages=advantages_of,
        update=update_with,
        with_reference=entry.leash != "",
        state=state)


def of_all_groups(signal, batch):
    """A signal of the batch, computed by each rank for its own prompts. -> (P, G) or (P, G, M)"""
    ranks = distributed.init()
    mine = slice(ranks.rank, None, ranks.world_size)
    own = signal(batch.problems[mine], batch.texts[mine])
    return torch.tensor(distributed.gather_interleaved(own))


def describe():
    """A table of METHODS. -> str"""
    lines = [f"{'method':20} {'arXiv':11} what it does"]
    for name, method in METHODS.items():
        lines.append(f"{name:20} {method.paper:11} {method.summary}")
    return "\n".join(lines)


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{describe()}\n\npython neighbors/neighbors.py METHOD [any flag of hero.py]")
        return
    name, *flags = arguments
    if name not in METHODS:
        raise ValueError(f"{name} is no method: the first word has to be one of "
                         f"{', '.join(METHODS)}")
    if any(flag.partition("=")[0] == "--reward" for flag in flags):
        raise ValueError(f"--reward beside the method {name}: leave it out")

    distributed.init()
    cfg = distributed.run_on_rank_0(lambda: hero.parse_args([*flags, "--reward", name]))
    if "members" in METHODS[name].signals:
        member_folders(cfg)                       # missing ones are an error before anything runs
    hero.train(cfg, make_method(name))


if __name__ == "__main__":
    distributed.run(main)
