"""The study: its runs are those of its design, and the arithmetic of its tables."""

import re
from collections import Counter
from concurrent.futures import Future

import numpy as np
import pandas as pd
import pytest
from helpers import metrics_of

import hero
import tiny
from neighbors import lab, neighbors
from problems import load_problems, write_jsonl
from results.study import study, tables

RATES = {"verifier": 1.0, "RM only": 2.0, "HERO": 3.0, "naive 0.5": 4.0, "naive 0.9": 5.0}
HERO = study.Job("hard", "HERO", 0, 1e-4)


def jobs_of_study(size):
    return study.sweep_jobs(size) + study.study_jobs(RATES, size)


# ---------------------------------------------------------------------------- what is run


def test_the_runs_are_those_of_the_design():
    design = (study.HERE / "DESIGN.md").read_text().partition("# The design of the lab")[0]
    table = re.findall(r"^\| (\w+) \| .*: (\d+) \| .* \| (\d+)(?:,.*)? \|$", design, re.M)
    designed = {name: (int(cells), int(runs)) for name, cells, runs in table}

    sweep = study.sweep_jobs(study.FULL)
    made = {"sweep": (len({job.cell for job in sweep}), len(sweep))}
    for name, block in study.BLOCKS.items():
        made[name] = (len(block.cells), len(block.cells) * len(block.worlds))
    assert designed == made
    assert len(set(jobs_of_study(study.FULL))) == 218 + 9
    assert float(tables.DEFAULT_RECALL) == tiny.RECALL


def test_cells_are_made_one_after_another_and_then_in_ten_worlds():
    jobs = study.study_jobs(RATES, study.FULL)
    assert [job.world for job in jobs[:6]] == [0, 1, 2, 3, 4, 0]
    assert len({job.cell for job in jobs[:5]}) == 1

    more = study.study_jobs(RATES, study.FULL, more=True)
    assert more[:len(jobs)] == jobs and len(set(more)) == len(more)
    worlds = Counter(job.cell for job in more)
    assert {count for cell, count in worlds.items() if cell.startswith("long / ")} == {3}
    assert {count for cell, count in worlds.items() if not cell.startswith("long / ")} == {10}


@pytest.mark.parametrize("jobs_of, size", [
    (jobs_of_study, study.FULL), (jobs_of_study, study.QUICK),
    (lab.make_jobs, lab.FULL), (lab.make_jobs, lab.QUICK)])
def test_every_job_is_a_run_that_can_be_started(jobs_of, size):
    configs = [study.make_config(job, size) for job in jobs_of(size)]
    for config in configs:
        hero.validate(config, 1, rewards=[*hero.REWARDS, *neighbors.METHODS])
    assert len({config.name for config in configs}) == len(configs)


def test_a_cell_takes_the_learning_rate_of_its_kind_of_method():
    chosen = {job.cell: job.rate for job in study.study_jobs(RATES, study.FULL)}
    expected = {"hard / oracle": 1, "weak / RM only": 2, "hard / RM leash": 3,
                "long / HERO at 1e-4": 1e-4, "hard / naive 0.1": 4, "hard / naive 0.95": 5}
    assert expected.items() <= chosen.items()


def run_rows(cell, world, accuracies, easy=None):
    """The rows of a run that was evaluated at steps 0, 15, 30 ... easy: as hard, if not given"""
    return [{"cell": cell, "world": world, "rate": 1e-4, "step": 15 * i, "hard": hard,
             "easy": (easy or accuracies)[i], "hard rm": hard, "all rejected": 0.5,
             "auroc": None, "entropy": None, "seconds": 60} for i, hard in enumerate(accuracies)]


def test_the_rate_with_the_best_course_is_chosen():
    rows = []
    for method in study.SWEPT:
        for rate, value in ((5e-5, 0.3), (1e-4, 0.5 if method == "HERO" else 0.2), (2e-4, 0.4)):
            rows += run_rows(f"sweep {rate:g} / {method}", 100, [0.9, value, value])
    rates = study.choose_rates(rows, study.FULL)
    assert rates.pop("HERO") == 1e-4
    assert set(rates.values()) == {2e-4}


# ---------------------------------------------------------------------------- worlds and runs


def test_a_world_gets_other_references_and_fresh_problems(world, monkeypatch, folder):
    monkeypatch.chdir(folder)
    size = study.Size("", 2, {}, (0,), (1e-4,), hard_problems=20, easy_problems=10)
    study.prepare_world(0, size)
    extras = size.extras(0)

    # The same problems, of which the blindest verifier accepts none of the policy's phrasings.
    own = tiny.make_problems(40, True, seed=0, evaluation=False)
    blind = load_problems(extras / "recall 0" / "hard.jsonl")
    assert [row["problem"] for row in own] == [row["problem"] for row in blind]
    assert all("beyond" in row["answer"] for row in blind)

    held_out = load_problems(world / "eval" / "hard.jsonl")
    held_out += load_problems(world / "eval" / "easy.jsonl")
    texts = {study.in_digits(row["problem"]) for row in held_out}
    for name, count in (("hard", 20), ("easy", 10)):
        fresh = load_problems(extras / f"{name}.jsonl")
        assert len(fresh) == count
        assert not texts & {study.in_digits(row["problem"]) for row in fresh}

    monkeypatch.setattr(tiny, "code_version", lambda: "other")
    with pytest.raises(ValueError, match="another version of the code: delete it"):
        study.prepare_world(0, size)


def test_what_the_reward_models_are_trained_on(monkeypatch, world, tmp_path):
    """A good one on both kinds of pairs, a weak one on easy answers, a reversed one on swaps."""
    trained_on = []

    def fake_training(reward_model, pairs, *_, **options):
        trained_on.append(pairs)
        return [0.5]

    monkeypatch.setattr(tiny, "demonstrations", lambda *_: [("problem in words", "right", "wrong")])
    monkeypatch.setattr(tiny, "own_pairs", lambda *_: [("problem", "good", "bad")])
    monkeypatch.setitem(study.MISLEADING, "weak", tiny.own_pairs)
    monkeypatch.setattr(tiny, "fit_reward_model", fake_training)
    tiny.build_reward_model(tmp_path / "good", world / "policy")
    for kind, make_pairs in study.MISLEADING.items():
        study.build_reward_model(tmp_path / kind, world / "policy", 0, 5, make_pairs)
        study.build_reward_model(tmp_path / kind, world / "policy", 0, 5, make_pairs)     # no more
    assert trained_on == [
        [("problem", "good", "bad"), ("problem in words", "right", "wrong")],
        [("problem", "good", "bad")],
        [("problem", "bad", "good"), ("problem in words", "wrong", "right")]]


def test_a_neighbor_is_trained_by_its_own_method(monkeypatch, tmp_path):
    trained = []

    def train(cfg, method):
        trained.append((cfg.reward, method and method.with_reference))
        write_jsonl(f"runs/{cfg.name}/metrics.jsonl", [{"step": 0}])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hero, "train", train)
    for method in ("HERO", "RM leash"):
        assert study.train_job(study.Job("hard", method, 0, 1e-4), study.FULL) == [{"step": 0}]
    assert trained == [("hero", None), ("rm_kl", True)]
    assert list(tmp_path.glob("runs/*")) == []


@pytest.mark.slow
def test_the_log_has_what_the_study_reads(unbroken):
    folder, _ = unbroken
    logged = metrics_of(folder, "a")
    rows = study.evaluations(HERO, logged, 1.0)
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert rows[-1]["hard"] == logged[-1]["eval/hard/pass@1"]
    for column, key in study.TRAINING.items():
        means = [entry[key] for entry in logged[-2:] if entry[key] is not None]
        assert rows[-1][column] == (pytest.approx(np.mean(means)) if means else None)


def test_a_run_that_is_there_is_not_made_again(tmp_path, monkeypatch):
    class Pool:
        """Makes the run of a job at once, and remembers it."""
        made = []

        def submit(self, run, job, *options):
            self.made.append(job.world)
            future = Future()
            future.set_result(run_rows(job.cell, job.world, [0.1, 1 / 3]))
            return future

    def make_runs():
        return study.make_runs(Pool(), jobs, path, study.FULL, prepare=lambda *_: None)

    jobs = [study.Job("hard", "HERO", world, 1e-4) for world in range(3)]
    path = tmp_path / "study.csv"
    study.write_csv(path, run_rows("hard / HERO", 1, [0.1, 0.2]))
    assert len(make_runs()) == 6
    saved = path.read_text()
    assert "hard / HERO,2,0.0001,15,0.333333,0.333333,0.333333,0.5,,,60" in saved.splitlines()
    assert len(make_runs()) == 6 and path.read_text() == saved
    assert Pool.made == [0, 2]


def test_no_run_begins_after_the_deadline():
    assert study.run_job(HERO, study.FULL, deadline=0, rows_of=None) == []


# ---------------------------------------------------------------------------- arithmetic


def study_of(*runs):
    return tables.Study(pd.DataFrame(sum(runs, [])))


def test_outcomes_of_a_run():
    run = run_rows("a", 0, [0.9, 0.1, 0.3, 0.2], easy=[0.9, 0.3, 0.5, 0.4])
    values = tables.outcomes(pd.DataFrame(run))
    assert values["course hard"] == pytest.approx(0.2)              # step 0 does not count
    assert values["course easy"] == pytest.approx(0.4)
    assert values["course"] == pytest.approx(0.3)
    assert values["easy minus hard"] == pytest.approx(0.2)
    assert values["end"] == pytest.approx(0.3)
    assert values["gain"] == pytest.approx(0.1)                     # 0.3 - 0.2
    assert values["best minus last"] == pytest.approx(0.1)          # 0.4 - 0.3
    assert values["score gain"] == pytest.approx(-0.7)


def test_an_interval_and_a_p_value_are_student_s():
    # 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14, deviation sqrt(14 / 2), over sqrt(3)
    mean, half = tables.mean_interval([1, 2, 6])
    assert mean == 3
    assert half == pytest.approx(4.303 * np.sqrt(7 / 3))
    assert tables.show([1, 2, 6]) == "3.000 ± 6.573"
    assert tables.show_difference([0.5]) == "+0.500"
    assert tables.show([]) == "not run"

    # With two degrees of freedom p = 1 - t / sqrt(2 + t^2); t = 3 / sqrt(7 / 3).
    t = 3 / np.sqrt(7 / 3)
    assert tables.p_value([1, 2, 6]) == pytest.approx(1 - t / np.sqrt(2 + t * t), abs=1e-4)
    assert tables.p_value([1]) == 1


@pytest.mark.parametrize("count", range(2, 11))
def test_the_quantiles_of_t_are_those_of_the_p_value(count):
    # Values of +-1 about a mean, or with a 0: a mean of T95 standard errors has p = 0.05.
    values = np.linspace(-1, 1, count)
    values += tables.T95[count] * values.std(ddof=1) / count ** 0.5
    assert tables.p_value(values) == pytest.approx(0.05, abs=1e-3)


def test_holm_multiplies_by_how_many_are_left():
    # sorted: 0.01 * 4, 0.015 * 3 = 0.045, 0.02 * 2 = 0.04 but not below 0.045, 0.9
    assert tables.holm([0.02, 0.01, 0.9, 0.015]) == pytest.approx([0.045, 0.04, 0.9, 0.045])


def synthetic_study():
    """HERO is ahead of the verifier by 0.08, 0.1 and 0.12, and the oracle by twice that."""
    rows = run_rows("recall 0 / HERO", 2, [0.2, 0.5, 0.6])
    for world, gain in ((2, 0.12), (0, 0.08), (1, 0.1)):
        base = 0.3 + 0.1 * world
        for method, lead in (("verifier", 0), ("HERO", gain), ("oracle", 2 * gain)):
            rows += run_rows(f"hard / {method}", world, [0.2, base + lead, base + lead])
    return study_of(rows)


def test_differences_are_paired_by_world():
    result = synthetic_study()
    lead = result.difference("hard / HERO", "hard / verifier")
    assert dict(lead) == pytest.approx({0: 0.08, 1: 0.1, 2: 0.12})
    # 0.1, deviation 0.02: 4.303 * 0.02 / sqrt(3) = 0.0497
    assert tables.show_difference(lead) == "+0.100 ± 0.050"

    shares = result.gap_shares("hard / HERO", "hard / verifier")
    assert list(shares) == pytest.approx([0.5] * 3)
    # Only world 2 has all: 0.55 + 0.62 - 0.74, and nothing to subtract.
    added = result.difference("recall 0 / HERO + hard / HERO", "hard / oracle")
    assert dict(added) == pytest.approx({2: 0.43})
    assert list(result.difference("recall 0 / HERO", "")) == pytest.approx([0.55])
    assert list(result.difference("none", "hard / HERO")) == []


def test_the_verifier_at_a_recall_of_0_is_the_start():
    result = synthetic_study()
    assert list(result.difference("recall 0 / HERO", "start")) == pytest.approx([0.35])
    assert list(result.values("recall 0 / verifier", "end")) == pytest.approx([0.2] * 3)
    assert list(result.values("recall 0 / verifier", "all rejected")) == [1.0] * 3


def test_verdicts():
    assert tables.verdict_alone([]) == "not run"
    assert tables.verdict_alone([0.1]) == "open"
    assert tables.verdict_alone([0.08, 0.1, 0.12]) == "seen"                # 0.1 +- 0.0497
    assert tables.verdict_alone([-0.08, -0.1, -0.12]) == "opposite seen"
    assert tables.verdict_alone([-0.1, 0.1, 0.12]) == "open"

    # t = 0.1 / (0.02 / sqrt(3)) = 8.66, p = 0.0131, times twelve: not enough for the family
    verdicts, adjusted = tables.family_verdicts(synthetic_study())
    assert verdicts[2] == "open" and adjusted[2] == pytest.approx(12 * 0.0131, abs=1e-3)
    assert verdicts[0] == "not run"


def test_a_prediction_comes_true_only_with_all_its_parts():
    result = synthetic_study()
    ahead = tables.Claim("", "hard / HERO", "hard / verifier")
    behind = tables.Claim("", "hard / verifier", "hard / HERO")
    missing = tables.Claim("", "long / HERO", "hard / HERO")

    def came_true(verdicts, **parts):
        return tables.came_true(result, tables.Prediction("", **parts), verdicts)

    verdicts = ["confirmed", "open"]
    assert came_true(verdicts, confirmed=(1,), not_confirmed=(2,), above_0=(ahead,)) == "came true"
    assert came_true(verdicts, confirmed=(2,), above_0=(ahead,)) == "failed"
    assert came_true(verdicts, above_0=(ahead, behind)) == "failed"
    assert came_true(verdicts, above_0=(ahead, missing)) == "not run"
    assert came_true([*verdicts, "not run"], confirmed=(1,)) == "not run"
    assert came_true([*verdicts, "not run"], above_0=(ahead,)) == "came true"


def test_two_looks_are_at_the_first_five_worlds_and_at_the_others():
    rows = []
    for world in range(7):
        lead = 0.2 if world < 5 else 0.1
        rows += run_rows("hard / verifier", world, [0.2, 0.3])
        rows += run_rows("hard / HERO", world, [0.2, 0.3 + lead])
    lines = tables.two_looks_table(study_of(rows))
    assert len(lines) == 3                                  # two lines of heading, one claim
    assert "+0.200 ± 0.000 | confirmed" in lines[2] and "+0.100 ± 0.000 |" in lines[2]


def test_every_claim_and_table_is_of_cells_that_are_made():
    made = {job.cell for job in jobs_of_study(study.FULL)} | {"start", "recall 0 / verifier", ""}
    known = tables.outcomes(pd.DataFrame(run_rows("a", 0, [0.1, 0.2])))
    for claim in sum(tables.ALONE.values(), tables.FAMILY):
        assert {*claim.plus.split(" + "), *claim.minus.split(" + ")} <= made, claim
        assert claim.outcome in known
    for cells, reference in tables.TABLES.values():
        assert {*cells, reference} <= made


# ---------------------------------------------------------------------------- pages


@pytest.mark.parametrize("cell", ["hard / HERO", "long / verifier"])
def test_the_pages_need_no_more_than_one_run(tmp_path, cell):
    study.write_csv(tmp_path / "study.csv", run_rows(cell, 1, [0.2, 0.3]))
    study.write_csv(tmp_path / "cold_start.csv", [
        {"world": 1, "reward model": "good", "group": 0, "verified": verdict, "truth": 1,
         "score": float(verdict)} for verdict in (0, 1)])
    tables.write_report(tmp_path)
    page = (tmp_path / "study.md").read_text()
    assert "1 runs" in page and "not run" in page
    assert "good RM against the verdicts | 1 | 1.00" in page
    assert len(list(tmp_path.glob("*.png"))) == 5


@pytest.mark.release
def test_the_page_is_what_the_csv_files_make():
    assert tables.tables(study.HERE) == (study.HERE / "study.md").read_text()
