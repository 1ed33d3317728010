"""What README, docs/ and the pages of neighbors/ state is so: files, flags, names, keys, examples.

Tests of what changes with the code are marked `release`: whoever tries an idea need not edit pages.
"""

import importlib
import json
import re
import shlex
import sys
import tomllib
from collections import Counter

import pytest
import torch
import yaml
from helpers import ROOT, script

import eval as evaluation
import hero
import page
import prepare
import report
import rewards
import verify
from problems import read_jsonl
from results import paper_tables

release = pytest.mark.release

PAGES = ["README.md", "neighbors/README.md",
         *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")
                 if path.name != "CHANGELOG.md")]
MODULES = sorted(path.stem for path in ROOT.glob("*.py"))


def text_of(page):
    return (ROOT / page).read_text()


def code_of(text):
    """What stands in the code blocks and the code spans of a page, one item per line or span."""
    blocks = re.findall(r"```.*?\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\\\n", "").splitlines()
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return lines + spans


# ---------------------------------------------------------------------------- files and links


@pytest.mark.parametrize("page", [*PAGES, "docs/CHANGELOG.md"])
def test_every_file_that_is_named_exists(page):
    named = re.findall(r"`((?:tests|results|notebooks|neighbors|configs|docs)/[\w./-]*"
                       r"|\w+\.(?:py|txt|toml|cff))`", text_of(page))
    links = re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", text_of(page))
    assert not [name for name in named
                if not (ROOT / name).exists() and not (ROOT / page).with_name(name).exists()]
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_every_heading_that_is_linked_to_exists(page):
    for target, heading in re.findall(r"\]\(([\w./]*)#([\w-]+)\)", text_of(page)):
        path = (ROOT / page).parent / target if target else ROOT / page
        titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
        assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
                           for title in titles]


def test_the_citation_is_a_citation():
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version", "license"} <= set(citation)
    paper = citation["preferred-citation"]
    assert "2510.07242" in paper["url"] and len(paper["authors"]) == 8


def test_both_lists_of_requirements_are_the_same():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    listed = [line for line in text_of("requirements.txt").splitlines() if line[0] != "#"]
    assert project["dependencies"] == listed
    assert project["version"] == yaml.safe_load(text_of("CITATION.cff"))["version"]


@release
def test_the_lengths_of_the_files_are_about_right():
    sizes = re.findall(r"^\|[^|]*\| `(\w+\.py)` \| ([\d,]+) \|", text_of("README.md"), re.M)
    assert sorted(name for name, _ in sizes) == sorted(f"{module}.py" for module in MODULES)
    for name, lines in sizes:
        true_length = len(text_of(name).splitlines())
        stated = int(lines.replace(",", ""))
        assert abs(true_length - stated) <= 0.1 * true_length, (name, true_length)


# ---------------------------------------------------------------------------- commands and names


def help_of(command, monkeypatch, capsys):
    """What `python COMMAND --help` prints, in this process."""
    name, *stage = command.split()
    main = {"hero.py": hero.parse_args, "eval.py": evaluation.main, "report.py": report.main,
            "page.py": page.main, "prepare.py": prepare.main, "verify.py": verify.main,
            "results/paper_tables.py": paper_tables.main}[name]
    monkeypatch.setattr(sys, "argv", [name, *stage, "--help"])
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().out


COMMANDS = ["hero.py", "eval.py", "report.py", "page.py", "prepare.py split", "prepare.py sft",
            "prepare.py rm", "prepare.py textbook", "results/paper_tables.py table",
            "results/paper_tables.py verifiers", "verify.py"]


@release
@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_a_command_exists(command, monkeypatch, capsys):
    known = set(re.findall(r"--(\w+)", help_of(command, monkeypatch, capsys)))
    starters = r"(?:python|torchrun(?: --\w+ \S+)*) "
    used = set()
    for name in PAGES:
        for line in code_of(text_of(name)):
            found = re.search(starters + re.escape(command) + r"(?= |$)(.*)", line)
            if found:
                used |= set(re.findall(r"--(\w+)", found[1]))
    assert used <= known
    assert any(command in text_of(name) for name in PAGES)


@release
def test_every_flag_that_stands_alone_exists(monkeypatch, capsys):
    known = {"nproc_per_node", "nnodes", "shutdown_timeout"}
    for command in COMMANDS:
        known |= set(re.findall(r"--(\w+)", help_of(command, monkeypatch, capsys)))
    for name in PAGES:
        for code in code_of(text_of(name)):
            if code.startswith("--"):
                assert set(re.findall(r"--(\w+)", code)) <= known, (name, code)


@release
def test_the_settings_of_change_one_thing_are_settings_of_hero():
    table = text_of("README.md").split("## Change one thing")[1].split("\n## ")[0]
    commands = [code for code in code_of(table) if code.startswith("--")]
    assert len(commands) > 8
    for command in commands:
        hero.parse_args(shlex.split(command))


def missing_names(text):
    """The `module.name` and `module.Class.name` of a text that do not exist."""
    missing = []
    for module, path in re.findall(rf"(?<![\w/.])({'|'.join(MODULES)})\.([\w.]*\w)", text):
        value = importlib.import_module(module)
        for name in path.split("."):
            annotations = getattr(value, "__annotations__", {})
            value = annotations.get(name) or getattr(value, name, None)
        if value is None and path not in ("py", "json", "jsonl", "md", "html"):
            missing.append(f"{module}.{path}")
    return missing


@release
@pytest.mark.parametrize("page", PAGES)
def test_every_function_that_is_named_exists(page):
    assert not missing_names("\n".join(code_of(text_of(page))))


# ---------------------------------------------------------------------------- worked examples

SCORES = torch.tensor([[4.0, 1.0, 2.0, -1.0]], dtype=torch.float64)
TWO_ACCEPTED = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)


def numbers(text):
    return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", text)]


def advantages(verified, reward="hero", **settings):
    batch = rewards.Batch(SCORES, verified)
    return rewards.compute_advantages(batch, 1.0, reward, **settings)


@release
def test_the_readme_s_table_is_what_rewards_py_computes():
    section = text_of("README.md").split("## The idea in one table")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines()
            if line.startswith("|")][2:]
    columns = list(zip(*rows, strict=True))
    settings = {"alpha": 0.05, "beta": 0.1, "weight_on": "none"}
    close = pytest.approx

    assert [float(x) for x in columns[2]] == SCORES[0].tolist()
    assert [float(x) for x in columns[3]] == close(advantages(TWO_ACCEPTED, **settings).r_hat[0],
                                                   abs=1e-5)
    for column, reward in zip(columns[4:], ("verifier", "rm", "hero"), strict=True):
        expected = advantages(TWO_ACCEPTED, reward, **settings).advantages[0]
        assert [float(x) for x in column] == close(expected, abs=1e-5)

    answers = [answer.strip("`") for answer in columns[0]]
    responses = ["" if answer == "none" else rf"\boxed{{{answer}}}" for answer in answers]
    assert [int(verify.verify(response, "24").correct) for response in responses] == [
        int(x) for x in columns[1]]

    all_rejected = advantages(torch.zeros_like(TWO_ACCEPTED), **settings).advantages[0]
    sentence = re.search(r"HERO's still (.*?)\. ", section.replace("\n", " "))[1]
    assert numbers(sentence) == close(all_rejected, abs=1e-5)


@release
def test_the_cancellations_are_what_rewards_py_computes():
    first, second = text_of("docs/choices.md").split("\n## ")[1:3]
    table = [line.strip("| ").split(" | ") for line in first.splitlines() if line[:3] == "| 1"
             or line[:3] == "| 3"]
    assert len(table) == 3
    for weight, on_reward, on_advantage in table:
        for on, shown in (("reward", on_reward), ("advantage", on_advantage)):
            # a weight that is the same for every sigma
            expected = advantages(TWO_ACCEPTED, beta=0.1, weight_on=on, advantage_norm="std",
                                  w_min=float(weight), w_max=float(weight)).advantages[0]
            assert numbers(shown) == pytest.approx(expected, abs=0.0051)

    table = [line.strip("| ").split(" | ") for line in second.splitlines() if line[:3] == "| 0"]
    assert len(table) == 3
    for alpha, mean_only, std in table:
        for norm, shown in (("none", mean_only), ("std", std)):
            expected = advantages(torch.zeros_like(TWO_ACCEPTED), alpha=float(alpha),
                                  weight_on="none", advantage_norm=norm).advantages[0]
            assert numbers(shown) == pytest.approx(expected, abs=0.0051)


@release
def test_the_example_of_a_new_reward_works(monkeypatch):
    code = re.search(r"```python\n(.*?)```", text_of("README.md"), re.S)[1]
    entry = re.search(r'`"short": (Reward\(.*?\))`', text_of("README.md"))[1]
    names = vars(rewards).copy()
    exec(code, names)
    monkeypatch.setitem(rewards.REWARDS, "short", eval(entry, names))

    batch = rewards.Batch(SCORES, TWO_ACCEPTED, lengths=torch.tensor([[10, 30, 10, 30]]))
    result = rewards.compute_advantages(batch, 1.0, "short")
    assert result.rewards[0].tolist() == pytest.approx([0.9, 0.7, -0.1, -0.3])


# ---------------------------------------------------------------------------- keys


@release
def test_every_log_key_is_explained(unbroken):
    folder, _ = unbroken
    logged = set()
    for line in (folder / "runs/a/metrics.jsonl").read_text().splitlines():
        logged |= set(json.loads(line))
    evaluated = {key.split("/")[2] for key in logged if key.startswith("eval/")}
    logged = {key for key in logged if not key.startswith("eval/")}

    text = text_of("docs/log.md")
    explained = set(re.findall(r"`([\w/@]+)`", text))
    assert logged | evaluated <= explained

    # and nothing is explained that no run logs, on a CPU or a GPU, with or without a KL term
    tables = text.split("## metrics.jsonl")[1].split("### Evaluation")[0]
    explained = set(re.findall(r"`(\w+/\w+)`", "\n".join(re.findall(r"^\| .*? \|", tables, re.M))))
    elsewhere = {"policy/kl_ref", "perf/mfu", "perf/peak_memory_gib"}
    assert explained == logged - {"step"} | elsewhere


@release
def test_every_column_of_the_rollouts_is_explained(unbroken):
    folder, _ = unbroken
    row = json.loads((folder / "runs/a/rollouts.jsonl").read_text().splitlines()[0])
    section = text_of("docs/log.md").split("## rollouts.jsonl")[1].split("\n## ")[0]
    first_cells = "\n".join(re.findall(r"^\| .*? \|", section, re.M))
    assert re.findall(r"`(\w+)`", first_cells) == list(row)


@release
def test_every_key_of_an_evaluation_is_explained(unbroken, tmp_path):
    folder, _ = unbroken
    result = script(folder, "eval.py", "--model", "runs/a/final", "--seeds", 2, "--reward_model",
                    "runs/world-0/reward_model", "--out", tmp_path / "eval.json")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "eval.json").read_text())
    text = text_of("docs/log.md")
    assert re.findall(r"^\| `(\w+)` \|", text.split("## eval.json")[1].split("\n## ")[0],
                      re.M) == list(report)
    evaluated = text.split("### Evaluation")[1].split("\n## ")[0]
    assert set(report["results"]["hard"]) <= set(re.findall(r"`([\w@]+)`", evaluated))


# ---------------------------------------------------------------------------- numbers


@release
def test_the_pairs_written_blind_are_accepted_as_the_page_says():
    """The column "now" of what remains: how many wrong and right answers of each set."""
    rows = [row for _, row in read_jsonl(ROOT / "results/verifier/blind_pairs.jsonl")]
    verdicts = verify.verify_all([row["response"] for row in rows], [row["gold"] for row in rows])
    accepted = Counter()
    for row, verdict in zip(rows, verdicts, strict=True):
        accepted[row["source"].removeprefix("blind "), row["label"]] += verdict.correct

    page = text_of("results/verifier/verifiers_remaining.md")
    table = re.findall(r"^\| ([A-E]) \| (.*) \|$", page, re.M)
    assert len(table) == 5
    for name, cells in table:
        now = cells.split("|")[-2].strip()
        assert now == f"{accepted[name, False]}, {accepted[name, True]}"
