"""Recipe: the one typed configuration of a run, read from YAML plus `key=value` overrides.

    recipe = load("quickstart", ["seed=1", "grpo.max_steps=5"])

`sft`, `grpo` and `lora` go verbatim to trl.SFTConfig, trl.GRPOConfig and peft.LoraConfig, whose
documentation applies. What the recipe sets at the top (`seed`, `output_dir`, `report_to`, the vLLM
switch) may not be set again inside them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rlvr.options import build, typed
from rlvr.plugins import load as load_plugin
from rlvr.schedules import Schedule
from rlvr.source import Source
from rlvr.types import Error, suggest
from rlvr.verifier import Verifier
from rlvr.yaml_file import read_mapping, set_values

BUILT_IN = Path(__file__).parent / "recipes"
Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Whole = Annotated[int, Field(ge=0)]
TOP = {  # keys of trl's configurations -> where a recipe sets them
    "seed": "seed",
    "data_seed": "seed",
    "output_dir": "output_dir",
    "report_to": "report_to",
    "use_vllm": "vllm.enabled",
    "reward_weights": "verifiers",
}
NUMBERS: dict[str, Any] = {  # of trl's configurations, what TRL takes and fails on later, if at all; so does text
    "max_steps": Annotated[int, Field(ge=-1)],
    "num_train_epochs": Above0,
    "learning_rate": NotNegative,
    "warmup_steps": NotNegative | None,
    "weight_decay": NotNegative,
    "max_grad_norm": NotNegative,
    "logging_steps": Above0,
    "save_steps": Above0,
    "save_total_limit": Count | None,
    "ddp_timeout": Count,
    "per_device_train_batch_size": Count,
    "gradient_accumulation_steps": Count,
    "generation_batch_size": Count | None,
    "steps_per_generation": Count | None,
    "num_generations": Count,
    "num_iterations": Count,
    "max_completion_length": Count | None,
    "max_length": Count | None,
    "temperature": Above0,
    "top_p": PositiveShare,
    "top_k": Whole | None,
    "beta": NotNegative,
    "epsilon": NotNegative,
    "epsilon_high": NotNegative | None,
    "vllm_max_model_length": Count | None,
    "vllm_gpu_memory_utilization": PositiveShare,
    "vllm_tensor_parallel_size": Count,
}


@dataclass(frozen=True)
class Vllm:
    """How vLLM samples; the rest of its options are TRL's own (`grpo.vllm_mode`, `grpo.vllm_...`)."""

    enabled: bool = False
    enforce_eager: bool = False
    dtype: str = "auto"  # vLLM's "auto" runs a float32 model in bfloat16
    engine: Mapping[str, Any] = field(default_factory=dict)  # verbatim to vllm.LLM: seed, kv_cache_memory_bytes, ...

    def options(self) -> dict[str, Any]:
        """Keyword arguments for vllm.LLM."""
        return {"enforce_eager": self.enforce_eager, "dtype": self.dtype, **self.engine}


@dataclass(frozen=True)
class Budget:
    """What `rlvr evaluate` may spend before it stops with what it has; the same command with more goes on. Questions
    come in the order of a hash of their ids, so that those asked are a random sample of all."""

    questions: Whole | None = None
    tokens: Whole | None = None  # of completions, never exceeded: what might is not asked
    minutes: NotNegative | None = None  # of this command; looked at between two chunks


Stage = Literal["before", "warm_start", "after"]


@dataclass(frozen=True)
class Evaluation:
    """What is measured before, between and after training."""

    split: Literal["train", "validation"] = "validation"  # the test split needs `rlvr evaluate --final`
    questions: Count | None = None  # at most so many, by hash order; None: all of the split
    panel: str | None = None  # a committed panel instead: see data/panels.tsv
    batch_size: Count = 32
    resamples: Count = 2000  # bootstrap resamples over perturbations
    stages: tuple[Stage, ...] = ("before", "warm_start", "after")
    temperature: NotNegative = 0.0  # 0: greedy
    samples: Count = 1  # completions of each question
    max_tokens: Count | None = None  # of a completion; None: as in training. A model that thinks at length needs more
    chunk: Count | None = None  # questions between two saves; None: four batches, with vLLM 2048 completions
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        if self.samples > 1 and not self.temperature:
            raise Error("recipe: evaluation.samples above 1 needs a temperature above 0: greedy ones are all the same")


@dataclass(frozen=True)
class Alarm:
    """Goes off once a metric has been beyond `limit` for `patience` training steps on end; see
    rlvr.training.watch.alarms."""

    limit: float
    patience: Count
    action: Literal["warn", "lower_rate", "stop", "none"] = "warn"


@dataclass(frozen=True)
class Watch:
    """The alarms of GRPO, each {limit, patience, action}; what is left out of one keeps its default."""

    zero_variance: Alarm = Alarm(0.8, 10)  # above: share of groups whose rewards are all alike, and teach nothing
    truncation: Alarm = Alarm(0.3, 10)  # above: share of completions cut off at grpo.max_completion_length
    importance_ratio: Alarm = Alarm(0.5, 5)  # below: mean probability ratio, trainer to vLLM; what is masked counts 0
    entropy: Alarm = Alarm(0.1, 10)  # below: entropy, as a share of what it was in the first steps
    kl: Alarm = Alarm(1.0, 5)  # above: nats per token from the reference, where grpo.beta > 0
    verifier_errors: Alarm = Alarm(0.01, 3)  # above: share of a batch that one verifier failed on
    hacking: Alarm = Alarm(0, 1)  # above: number of hacking monitors beyond their limits (rlvr.evaluation.monitors)
    gradient: Alarm = Alarm(10.0, 5)  # above: norm of the gradient before it is clipped
    reward: Alarm = Alarm(0.5, 10)  # below: mean reward of ten steps, as a share of the best such mean
    not_finite: Alarm = Alarm(0, 1, "stop")  # above: how many of loss and gradient norm are infinite or no number
    monitors_every: Count = 50  # training steps between two readings of the hacking monitors
    floor: PositiveShare = 0.1  # lower_rate halves the learning rate, never below this share of grpo.learning_rate


@dataclass(frozen=True)
class Learning:
    """What the policy learns from: which questions GRPO asks, in what order, and what becomes of groups of completions
    that teach nothing. See rlvr.training.learning and rlvr.training.trainer.dynamic_sampling."""

    pool: str | None = None  # pass rates, as `rlvr probe` writes them
    keep: tuple[float, ...] = (0.0, 1.0)  # the lowest and the highest pass rate of the questions that GRPO asks
    curriculum: Mapping[str, Any] = field(default_factory=dict)  # training step -> share of these, easiest first
    rounds: Whole = 0  # how often groups without spread are replaced before a batch trains as it is
    spread: NotNegative = 0.0  # the difference between a group's best and worst reward that is none yet
    rationales: str | None = None  # what `rlvr probe` wrote: the warm start learns the best that passed
    rename: bool = False  # the warm start deals gene names anew: they say nothing of unseen genes, the evidence does
    critic: str | None = None  # one of the verifiers: the warm start leaves out what it would answer otherwise
    answer_weight: float = 1.0  # for how many tokens of a thought an answer's word counts in the warm start's loss
    format_only: bool = (
        False  # the warm start draws its answers, and what its thoughts read, at random: no label is spent
    )
    answer_entropy: NotNegative = 0.0  # GRPO's bonus on the entropy of the answer's word, in nats, beside the advantage

    def __post_init__(self) -> None:
        if len(self.keep) != 2 or not 0.0 <= self.keep[0] <= self.keep[1] <= 1.0:
            raise Error(f"recipe: learning.keep is {list(self.keep)}; give two pass rates in order, as in [0.1, 0.9]")
        if self.pool is None and (self.keep != (0.0, 1.0) or self.curriculum):
            raise Error("recipe: learning.keep and learning.curriculum need learning.pool; `rlvr probe` makes the file")
        if self.answer_weight < 1:
            raise Error(f"recipe: learning.answer_weight is {self.answer_weight:g}; it must be at least 1")
        if self.format_only and self.critic:
            raise Error("recipe: learning.critic judges answers that learning.format_only draws at random; remove one")
        if self.rationales and (self.rename or self.critic or self.format_only):
            key = "rename" if self.rename else "critic" if self.critic else "format_only"
            raise Error(f"recipe: learning.{key} is for written rationales; remove it, or learning.rationales")
        if self.curriculum and not all(0.0 < share <= 1.0 for _, share in self.shares.points):
            raise Error("recipe: learning.curriculum: every share must be above 0 and at most 1")

    @property
    def shares(self) -> Schedule:
        """The share of the questions that is open, by training step."""
        return Schedule.parse(self.curriculum, "recipe: learning.curriculum")


@dataclass(frozen=True)
class Recipe:
    """One run.

    source: {name, options...}, or a list of them for a run over several tasks; beside a source's own options
    `questions` caps its training questions. prompt: templates (names or paths) in the place of their tasks' own.
    verifiers: name -> {weight, gate, options...}; a weight is a number or {step: number}, linear in between. `verifier`
    among them is the verifier's own name, where the recipe gives it another: two oracles are two names of one verifier.
    """

    model: str
    source: Mapping[str, Any] | tuple[Mapping[str, Any], ...]
    verifiers: Mapping[str, Mapping[str, Any]]
    prompt: str | tuple[str, ...] = ()
    sft: Mapping[str, Any] = field(default_factory=dict)
    grpo: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] = field(default_factory=dict)
    vllm: Vllm = Vllm()
    evaluation: Evaluation = Evaluation()
    learning: Learning = Learning()
    watch: Watch = Watch()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # what NumPy takes
    output_dir: str = "runs/run"
    report_to: str = "tensorboard"
    allow_leak: str = ""  # why training may know what is held out (`rlvr data audit`); it stands on the report
    max_error_rate: Share = 0.02  # share of completions a verifier may fail on before the run stops
    deadline: Above0 | None = 120.0  # seconds a batch of verdicts may take before its worker is killed; null: no worker
    memory: Above0 = 8.0  # GiB that the process of each verifier which rlvr does not ship may take up

    def __post_init__(self) -> None:
        for section in ("sft", "grpo"):
            for key in TOP.keys() & getattr(self, section).keys():
                raise Error(f"recipe: {section}.{key} is set by `{TOP[key]}` at the top; remove it from {section}")
        if self.learning.curriculum and ("shuffle_dataset" in self.grpo or not self.grpo.get("max_steps")):
            raise Error("recipe: learning.curriculum orders all steps: set grpo.max_steps, remove grpo.shuffle_dataset")
        for section in ("sft", "grpo"):
            for key, value in getattr(self, section).items():
                if key in NUMBERS:
                    typed(value, NUMBERS[key], f"recipe: {section}.{key}")
        if not self.sources or any("name" not in source for source in self.sources):
            raise Error("recipe: source needs a name, for example `source: {name: tcell_cytokines}`")
        if not self.verifiers:
            raise Error("recipe: verifiers is empty; name at least one")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as written to the run's recipe.yaml."""
        return _plain(dataclasses.asdict(self))  # type: ignore[no-any-return]

    @property
    def sources(self) -> tuple[Mapping[str, Any], ...]:
        """The sources as a list, one or several."""
        return (self.source,) if isinstance(self.source, Mapping) else self.source

    def open_sources(self) -> list[tuple[Source, int | None]]:
        """Each source with its options, and the most training questions to take from it (None: all)."""
        return [_opened(dict(values)) for values in self.sources]

    def open_verifiers(self) -> dict[str, tuple[Verifier, Schedule, bool]]:
        """name -> (verifier, weight by training step, gate)."""
        opened = {}
        for name, values in self.verifiers.items():
            options = dict(values or {})
            weight, gate = options.pop("weight", 1.0), options.pop("gate", False)
            if not isinstance(gate, bool):
                raise Error(f"recipe: verifiers.{name}.gate must be true or false, not {gate!r}")
            plugin = load_plugin("verifiers", str(options.pop("verifier", name)), Verifier)
            schedule = Schedule.parse(weight, f"recipe: verifiers.{name}.weight")
            opened[name] = (build(plugin, options, f"verifier {name}", ("weight", "gate", "verifier")), schedule, gate)
        return opened


def _opened(values: dict[str, Any]) -> tuple[Source, int | None]:
    name, most = str(values.pop("name")), values.pop("questions", None)
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise Error(f"recipe: source {name}: questions must be a whole number of at least 1, not {most!r}")
    return build(load_plugin("data", name, Source), values, f"source {name}", ("name", "questions")), most


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name (`quickstart`) or path, with `key=value` overrides (`grpo.max_steps=5`)."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = BUILT_IN / f"{name_or_path}.yaml"
    elif not path.is_file():
        raise Error(f"recipe {name_or_path}: {'is a folder' if path.is_dir() else 'no such file'}; name a YAML file")
    if not path.is_file():
        known = sorted(p.stem for p in BUILT_IN.glob("*.yaml"))
        raise Error(f"no recipe {name_or_path!r}{suggest(name_or_path, known)}; known: {', '.join(known)}")
    values = read_mapping(path, f"recipe {path}")
    if "extends" in values:
        values = _extended(values, path)
    set_values(values, overrides)
    values.setdefault("output_dir", f"runs/{path.stem}")
    return build(Recipe, values, f"recipe {path.name}")


def _extended(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """`extends: NAME` takes every key from that recipe, beside this one or built in, which is not given here."""
    name = str(values["extends"])
    file = next((f for folder in (path.parent, BUILT_IN) if (f := folder / f"{name}.yaml").is_file()), None)
    if file is None:
        raise Error(f"recipe {path}: extends {name!r}, which is no recipe beside it or built in")
    base = read_mapping(file, f"recipe {file}")
    if "extends" in base:
        raise Error(f"recipe {path}: extends {name!r}, which extends another; name that one, or write the keys out")
    return base | {key: value for key, value in values.items() if key != "extends"}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
