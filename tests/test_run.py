"""Where a run came from, starting from another's settings, run names, trackers, the model card."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml
from helpers import ROOT, SMALL, command, environment, metrics_of, refused

import hero
import run
from distributed import Ranks
from hero import Config
from problems import read_jsonl, write_jsonl

ONE_CPU = Ranks(0, 1, torch.device("cpu"))


# ---------------------------------------------------------------------------- where it came from


def git(folder, *arguments):
    subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *arguments], cwd=folder,
                   check=True, capture_output=True)


def test_the_commit_and_whether_the_code_was_changed(tmp_path, monkeypatch):
    """Only of the project itself, not of another repository in whose folder it lies."""
    monkeypatch.setattr(run, "__file__", str(tmp_path / "run.py"))
    (tmp_path / "run.py").write_text("1\n")
    origin = run.describe_origin([], ONE_CPU)
    assert origin["commit"] is None and origin["dirty"] is None

    git(tmp_path, "init")
    (tmp_path / "other.py").write_text("1\n")
    git(tmp_path, "add", "other.py")
    git(tmp_path, "commit", "-m", "m")
    assert run.describe_origin([], ONE_CPU)["commit"] is None

    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "m")
    origin = run.describe_origin([], ONE_CPU)
    assert len(origin["commit"]) == 40 and origin["dirty"] is False
    (tmp_path / "run.py").write_text("2\n")
    again = run.describe_origin([], ONE_CPU)
    assert again == origin | {"dirty": True, "began": again["began"]}

    monkeypatch.setenv("PATH", "")                              # no git
    assert run.describe_origin([], ONE_CPU)["commit"] is None


def test_what_a_run_is_made_with(tmp_path, monkeypatch):
    (tmp_path / "data.jsonl").write_text("abc")
    monkeypatch.setattr(sys, "argv", ["/somewhere/hero.py", "--name", "a b"])
    origin = run.describe_origin([tmp_path / "data.jsonl", "hub/dataset"], ONE_CPU)
    assert origin["command"] == "hero.py --name 'a b'"
    # The first example of FIPS 180-2.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert origin["sha256"] == {str(tmp_path / "data.jsonl"): digest, "hub/dataset": None}
    assert list(origin["versions"]) == ["python", "torch", "transformers", "vllm", "sympy", "numpy"]
    assert torch.__version__.startswith(origin["versions"]["torch"])         # without its +cu130
    assert origin["device"] and origin["ranks"] == 1


def test_config_json_says_what_it_was_made_with(unbroken):
    folder, _ = unbroken
    config = json.loads((folder / "runs/a/config.json").read_text())
    assert config["steps"] == 4
    data = folder / "runs/world-0/train/hard.jsonl"
    digests = config["made_with"]["sha256"]
    assert list(digests) == ["runs/world-0/train/hard.jsonl", "runs/world-0/eval/easy.jsonl",
                             "runs/world-0/eval/hard.jsonl"]
    assert digests["runs/world-0/train/hard.jsonl"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert config["made_with"]["command"].startswith("hero.py --name a --steps 4")


def test_a_resumed_run_says_what_has_changed_since(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_jsonl("train.jsonl", [{"problem": "1+1", "answer": "2"}])
    cfg = Config(name="r", data="train.jsonl", eval_data="math500")
    run.write_config(cfg, ONE_CPU, tmp_path)
    written = (tmp_path / "config.json").read_text()
    assert json.loads(written)["made_with"]["sha256"]["HuggingFaceH4/MATH-500"] is None

    cfg.resume = True
    monkeypatch.setattr(sys, "argv", ["hero.py", "--resume", "--name", "r"])
    run.write_config(cfg, ONE_CPU, tmp_path)
    assert capsys.readouterr().out == ""
    write_jsonl("train.jsonl", [{"problem": "1+1", "answer": "3"}])
    run.write_config(cfg, ONE_CPU, tmp_path)
    assert "since" in (said := capsys.readouterr().out) and said.count("\n") == 1
    assert "this has changed: sha256/train.jsonl; the rest of the run may differ" in said
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(written)


# ---------------------------------------------------------------------------- --config


def test_a_run_starts_from_the_settings_of_another(unbroken, monkeypatch):
    folder, _ = unbroken
    monkeypatch.chdir(folder)
    cfg = hero.parse_args(["--config", "runs/a/config.json", "--alpha", "0.2"])
    assert (cfg.name, cfg.config, cfg.alpha) == ("", "runs/a/config.json", 0.2)
    written = json.loads((folder / "runs/a/config.json").read_text())
    for key in vars(cfg).keys() - {"name", "config", "alpha"}:
        assert getattr(cfg, key) == written[key]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_config_is_one_that_can_run(path):
    """By its name, as a file, and on the ranks that it is written for."""
    cfg = hero.parse_args(["--config", path.stem])
    assert hero.parse_args(["--config", str(path)]) == replace(cfg, config=str(path))
    hero.validate(replace(cfg, engine="transformers"), world_size=8)
    assert path.read_text().startswith("#")


def test_a_name_says_what_is_special_about_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def name_of(*flags):
        return run.new_name(hero.parse_args(flags))

    assert name_of() == "hero-hard-seed0"
    assert name_of("--alpha", "0.1", "--seed", "3") == "hero-hard-seed3-alpha0.1"
    assert name_of("--data", "runs/world-0/train/lucky.jsonl") == "hero-hard-seed0-datalucky"
    assert name_of("--learning_rate", "1e-3", "--gradient_checkpointing") == (
        "hero-hard-seed0-learning_rate0.001-gradient_checkpointing1")
    assert name_of("--config", "qwen3-4b", "--steps", "9") == "qwen3-4b-hero-easy-seed0-steps9"
    assert len(name_of("--instruction", "/" + "x" * 1000)) < 60
    (tmp_path / "mine.toml").write_text("alpha = 0.2")
    cfg = hero.parse_args(["--config", "mine.toml", "--beta", "0.1"])
    assert run.changed_settings(cfg) == {"config": "mine.toml", "beta": 0.1}
    (tmp_path / "mine.toml").unlink()                          # while the run was at work
    assert run.changed_settings(cfg) == {"alpha": 0.2, "beta": 0.1}
    (tmp_path / "runs" / "hero-hard-seed0").mkdir(parents=True)
    assert name_of() == "hero-hard-seed0-2"


@pytest.mark.parametrize("content, says", [
    (None, "c.json cannot be read as a TOML file of settings or the config.json of a run ([Errno"),
    ("{", "c.json cannot be read as a TOML file of settings or the config.json of a run (Expec"),
    ("[1]", "c.json is not the config.json of a run: it holds no settings by name"),
    ('{"model_type": "qwen3"}', "c.json is of another version, or not of a run: it holds "
                                "model_type, which is no setting here"),
    ('{"steps": "many"}', 'c.json: steps is "many", and has to be of type int'),
    ('{"alpha": true}', "c.json: alpha is true, and has to be of type float"),
    ('{"alpha": 0.6, "beta": 0.6}', "their sum has to be below 1")])
def test_a_file_that_is_no_config(folder, content, says):
    if content is not None:
        (folder / "c.json").write_text(content)
    refused(folder, "--config", "c.json", says=says)


def test_a_name_that_is_no_config_lists_them(folder):
    refused(folder, "--config", "qwen3", says="choose one of octothinker-8b, qwen3-0.6b, ")


# ---------------------------------------------------------------------------- trackers


def test_a_tracker_that_cannot_start_is_one_line(tmp_path, monkeypatch):
    def init(*_, **__):
        raise RuntimeError("no api key\nand more")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    (tmp_path / "config.json").write_text('{"made_with": {"began": "now"}}')
    with pytest.raises(ValueError, match=r"^--track wandb: .* started there \(no api key\)$"):
        run.start_tracker(Config(name="r", track="wandb"), tmp_path)


def test_a_package_that_is_missing_is_named_at_once(folder, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    refused(folder, "--track", "wandb", says="--track wandb needs a package that is not installed: "
            "pip install wandb")


def test_an_unknown_tracker(folder):
    refused(folder, "--track", "mlflow", says="choose one of none, trackio, wandb")


def test_what_is_optional_is_not_imported_unless_asked_for(unbroken):
    folder, _ = unbroken
    code = ("import sys, hero, run; from pathlib import Path; "
            "run.start_tracker(hero.Config(), Path('runs/a')); "
            "print(sorted({'wandb', 'trackio', 'vllm'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, text=True,
                            env=environment() | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert result.stdout == "[]\n", result.stderr


def rows_in_trackio(folder, name):
    """{step: [rows]} of the one run in a trackio folder, read by trackio."""
    code = ("import json; from trackio.sqlite_storage import SQLiteStorage as storage; "
            "run, = storage.get_run_records('hero'); "
            "print(json.dumps([run['name'], storage.get_logs('hero', run['name'])], default=str))")
    result = subprocess.run([sys.executable, "-c", code], env=tracker_environment(folder),
                            text=True, capture_output=True)
    run_name, logs = json.loads(result.stdout.splitlines()[-1])
    assert run_name.startswith(f"{name}-")

    rows = {}
    for log in logs:
        step = log.pop("step")
        log.pop("timestamp")
        rows.setdefault(step, []).append(log)
    return rows


def rows_in_wandb(folder, name):
    """{step: [rows]} of the one run that the offline files in a run's folder hold."""
    from wandb.proto import wandb_internal_pb2
    rows = {}
    runs = set()
    for path in sorted((folder / "runs" / name / "wandb").glob("offline-*/*.wandb")):
        for content in records_of(path.read_bytes()):
            entry = wandb_internal_pb2.Record()
            entry.ParseFromString(content)
            kind = entry.WhichOneof("record_type")
            if kind == "run":
                runs.add((entry.run.run_id, entry.run.display_name))
            if kind == "history":
                items = {".".join(item.nested_key) or item.key: json.loads(item.value_json)
                         for item in entry.history.item}
                step = items["_step"]
                numbers = {key: value for key, value in items.items() if key[0] != "_"}
                rows.setdefault(step, []).append(numbers)
    assert len(runs) == 1 and runs.pop()[1] == name
    return rows


def records_of(content):
    """The records of a .wandb file: LevelDB's log format in blocks of 32 KiB, after 7 bytes."""
    at = 7
    whole = b""
    while at + 7 <= len(content):
        left_in_block = 32768 - at % 32768
        if left_in_block < 7:
            at += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", content[at:at + 7])
        whole += content[at + 7:at + 7 + length]
        at += 7 + length
        if kind in (1, 4):                                      # whole, or its last part
            yield whole
            whole = b""


def tracker_environment(folder):
    """Both trackers without a network; wandb writes its file twenty times per second."""
    return environment() | {"TRACKIO_DIR": str(folder / "trackio"), "WANDB_MODE": "offline",
                            "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "0.05"}


@pytest.mark.slow
@pytest.mark.parametrize("kind, read", [("trackio", rows_in_trackio), ("wandb", rows_in_wandb)])
def test_a_killed_and_resumed_run_is_one_run_in_the_tracker(folder, kind, read):
    """The real package, killed when it has six rows and resumed; steps after the last checkpoint
    are done again."""
    pytest.importorskip(kind, reason=f"{kind} is not installed: pip install {kind}")
    options = ["--name", "t", *SMALL, "--steps", 1000, "--save_every", 4, "--track", kind]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command("hero.py", *options), cwd=folder, stdout=log, stderr=log,
                                   env=tracker_environment(folder))
    written = set()
    while not set(range(6)) <= written:
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.5)
        with contextlib.suppress(Exception):                    # it has not begun, or writes a row
            written = set(read(folder, "t"))
    process.kill()
    process.wait()
    metrics = folder / "runs/t/metrics.jsonl"
    reached = [row["step"] for _, row in read_jsonl(metrics)][-1]

    resumed = command("hero.py", "--resume", "--name", "t", "--steps", reached + 2)
    result = subprocess.run(resumed, cwd=folder, text=True, capture_output=True,
                            env=tracker_environment(folder), timeout=300)
    assert result.returncode == 0, result.stderr
    rows = read(folder, "t")
    # What it had not yet written at the kill may be missing, and nothing else.
    assert written | {reached + 1, reached + 2} <= set(rows)
    logged = {row["step"]: row for _, row in read_jsonl(metrics)}
    for step, (*_, numbers) in rows.items():
        expected = logged[step]
        assert set(numbers) | {"step"} == set(expected)
        for key, value in numbers.items():
            if not key.startswith(("time/", "perf/")):
                assert value == pytest.approx(expected[key]), (step, key)


# ---------------------------------------------------------------------------- the model card


def parts_of(card):
    """The header of a model card, its text, and the facts that it holds as JSON."""
    _, header, body = card.split("---\n", 2)
    text, facts, _ = body.split("```")
    return yaml.safe_load(header), text, json.loads(facts.removeprefix("json"))


def test_final_says_how_it_was_trained(unbroken):
    folder, _ = unbroken
    header, text, facts = parts_of((folder / "runs/a/final/README.md").read_text())
    assert header == {"library_name": "transformers", "pipeline_tag": "text-generation",
                      "tags": ["reinforcement-learning", "hero"]}
    assert "4 steps of reinforcement learning, with the reward `hero`" in text
    assert "https://arxiv.org/abs/2510.07242" in text
    assert "|  | easy, before | easy, after | hard, before | hard, after |" in text
    for row in (metrics_of(folder, "a")[0], metrics_of(folder, "a")[-1]):
        assert f"| {row['eval/hard/pass@1']:.3f} |" in text

    settings = facts["settings that differ from the defaults"]
    assert settings["num_minibatches"] == 2 and "alpha" not in settings and "policy" not in settings
    assert facts["policy"] == "runs/world-0/policy"
    digest = hashlib.sha256((folder / "runs/world-0/train/hard.jsonl").read_bytes()).hexdigest()
    assert facts["made with"]["sha256"]["runs/world-0/train/hard.jsonl"] == digest
    assert facts["made with"]["versions"]["torch"] == importlib.metadata.version("torch")


def test_a_card_of_a_model_of_the_hub_with_awkward_settings():
    cfg = Config(name="m", policy="org/base", instruction="\n```\n---", judge_url="http://secret")
    card = run.model_card(cfg, {"command": "hero.py --judge_url http://secret"}, [{"step": 3}])
    header, _, facts = parts_of(card.replace("\\n```\\n---", "awkward"))
    assert header["base_model"] == "org/base" and "secret" not in card
    assert facts["settings that differ from the defaults"]["instruction"] == "awkward"


# ---------------------------------------------------------------------------- live output


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_output_to_a_file_is_whole_lines_as_they_come(folder):
    """`python hero.py | tee log` in a terminal: stderr is one, stdout is not."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))                    # a bar needs some room
    variables = environment()
    variables.pop("PYTHONUNBUFFERED", None)
    process = subprocess.Popen(command("hero.py", "--name", "o", *SMALL), cwd=folder, text=True,
                               env=variables, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)

    steps = []
    for line in process.stdout:
        if line.startswith("step "):
            steps.append(int(line.split()[1]))
            if steps[-1] == 1:
                # It comes as soon as the step is over, not when the run is.
                written = (folder / "runs/o/metrics.jsonl").read_text().count("\n")
                assert written < 5 and process.poll() is None
        assert "\r" not in line
    assert process.wait(60) == 0
    assert steps == [1, 2, 3, 4]
    bar = b""
    try:
        while chunk := os.read(ours, 4096):
            bar += chunk
    except OSError:                                            # the other end is closed
        pass
    os.close(ours)
    assert b"training" not in bar
