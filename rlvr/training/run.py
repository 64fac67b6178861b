"""What train.py calls: a Run, from recipe to report, one step after the other.

    run = Run(recipe); run.evaluate("before"); run.warm_start(); run.grpo(); run.evaluate("after"); run.report()

Everything that can be refused is refused in `Run(...)`, before anything is spent. A run that was killed goes on with
the same command: what a stage has finished is not done again, and training starts from its newest checkpoint.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig, SFTConfig

from rlvr import policy, prompts
from rlvr.evaluation.measure import Evaluation
from rlvr.evaluation.report import terminal_summary, write_report
from rlvr.evaluation.results import assemble
from rlvr.evaluation.subject import trained
from rlvr.loading import gather, reward_layer, select, templates
from rlvr.recipe import Recipe
from rlvr.training import checks
from rlvr.training.learning.critic import warm_start_rows
from rlvr.training.learning.pool import grpo_options, grpo_rows, pooled
from rlvr.training.stopwatch import Stopwatch
from rlvr.training.trainer.batch import Batch
from rlvr.training.trainer.config import checked_config
from rlvr.training.trainer.folder import open_folder
from rlvr.training.trainer.grpo import Trainer
from rlvr.training.trainer.jsonlines import JsonLines
from rlvr.training.trainer.patches import masked_positions_skipped, refuse_engine
from rlvr.training.trainer.resume import load_weights
from rlvr.training.trainer.state import read_states, write_states
from rlvr.training.trainer.warm_start import WarmStart
from rlvr.training.watch.callbacks import Watcher, one_line_a_step
from rlvr.training.watch.trackers import refuse_tracker
from rlvr.types import Error, Question

log = logging.getLogger(__name__)


class Run:
    """One training run in one folder. Errors: what the recipe asks for and cannot have, before anything is spent."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.folder, self.stopwatch = recipe, Path(recipe.output_dir), Stopwatch()
        self._configure()
        self._load_questions()
        self._check_questions()
        self._load_policy()
        self._check_prompts()
        self._open()

    def _configure(self) -> None:
        """This process among others, and TRL's configurations."""
        recipe, cpu = self.recipe, not torch.cuda.is_available()
        recipe.open_verifiers()  # a mistake in them shows before any data are read
        refuse_tracker(recipe.report_to)
        _refuse(checks.sharded_training(os.environ))
        # TRL's own group of processes would come too late to set how long one rank waits for another.
        self.state = PartialState(cpu=cpu, timeout=timedelta(seconds=recipe.grpo.get("ddp_timeout", 1800)))
        if cpu:  # accelerate launch hands each process one thread, whatever the machine has
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            torch.set_num_threads(max(1, cores // self.state.num_processes))
        self.batch = Batch.from_recipe(recipe.grpo, self.state.num_processes)
        _refuse(checks.lone_completions(self.batch))
        self.sft: SFTConfig | None = self._config(SFTConfig, "sft", "warm_start", {}) if recipe.sft else None
        fixed = {"use_vllm": recipe.vllm.enabled, **grpo_options(recipe.learning)}
        self.grpo_config: GRPOConfig = self._config(GRPOConfig, "grpo", "checkpoints", fixed)
        refuse_engine(recipe.vllm, self.grpo_config)

    def _config(self, kind: type, section: str, folder: str, fixed: Mapping[str, Any]) -> Any:
        recipe = self.recipe
        given = getattr(recipe, section)
        _refuse(checks.unresumable(section, given))
        hardware = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
        common = {"seed": recipe.seed, "report_to": recipe.report_to, "logging_nan_inf_filter": False}
        common["output_dir"] = str(self.folder / folder)
        return checked_config(kind, section, {"save_total_limit": 2, **hardware, **given}, {**common, **fixed})

    def _load_questions(self) -> None:
        """The questions, those that GRPO asks (`pool`), those that are measured, their prompts and their verifiers."""
        recipe = self.recipe
        with self.stopwatch.timed("data"):
            self.sources, self.questions = gather(recipe)
        self.train = [q for q in self.questions if q.split == "train"]
        self.pool = pooled(self.train, recipe.learning)
        self.held_out = select(self.questions, recipe.evaluation)
        self.templates = templates(recipe, {question.task for question in self.questions})
        self.layer = reward_layer(recipe, self.templates)
        self.grpo_config.reward_weights = self.layer.weights()

    def _check_questions(self) -> None:
        """What can be refused before the model is loaded."""
        verifiers = self.layer.verifiers
        _refuse(checks.unknown_critic(self.recipe.learning.critic, verifiers))
        _refuse(checks.unfilled_batch(len(self.pool), self.batch))
        checks.refuse_leaking_split(self.questions, self.held_out, self.recipe.allow_leak)
        proper = [name for name, entry in verifiers.items() if entry.verifier.proper]
        if warning := checks.overconfidence(proper, self.grpo_config.scale_rewards):
            log.warning("%s", warning)

    def _load_policy(self) -> None:
        """The base under the run's one LoRA, and what its warm start imitates."""
        recipe = self.recipe
        with self.stopwatch.timed("model"):
            base, self.tokenizer = policy.load_base(recipe.model)
            self.base_hash = policy.fingerprint(base)
            self.room = checks.prompt_room(base.config, recipe.vllm, self.grpo_config)
            set_seed(recipe.seed)
            if not getattr(base, "is_quantized", False):  # that is where it belongs already
                base.to(self.state.device)  # `before` is measured before a trainer would move it
            self.model = policy.add_lora(base, recipe.lora)
        self.imitated: list[dict[str, prompts.Messages]] = []
        if self.sft is not None:
            critic = recipe.learning.critic
            judge = None if critic is None else self.layer.verifiers[critic].verifier
            control = self.tokenizer.all_special_tokens
            self.imitated = warm_start_rows(self.train, self.templates, recipe.learning, control, recipe.seed, judge)

    def _check_prompts(self) -> None:
        """Refuse control tokens in prompts, and prompts that leave no room for the completion."""
        texts = checks.rendered([*self.train, *self.held_out], self.templates)
        _refuse(checks.control_token(texts, self.tokenizer.all_special_tokens))
        lengths = checks.token_counts(self.tokenizer, texts)
        _refuse(checks.long_prompt(lengths, self.room, self.grpo_config.max_completion_length))

    def _open(self) -> None:
        """The run's folder, new or gone on with, and what its finished stages have left."""
        if self.state.is_main_process:
            self.lock = open_folder(self.folder, self.recipe.to_dict(), self._made_of())
        self.state.wait_for_everyone()
        self._stages = self.folder / f"stages_rank{self.state.process_index}.json"
        if self._stages.is_file():
            read_states(self._stages, {"rewards": self.layer, "seconds": self.stopwatch})

    def evaluate(self, stage: str) -> None:
        """Ask the held-out questions; skipped when the recipe does not list the stage."""
        if stage not in self.recipe.evaluation.stages:
            return
        if (self.folder / "evaluations" / f"{stage}.parquet").is_file():  # by a start before this one
            return
        with self.stopwatch.timed(f"evaluate {stage}"):
            who = trained(self.model, self.tokenizer, self.recipe, self.base_hash)
            Evaluation(who, self.held_out, self.templates, self.layer, self.recipe, stage, self.folder).run()
        self._finished()

    def warm_start(self) -> None:
        """A short supervised phase on rationales written from training evidence, on the run's one LoRA."""
        if self.sft is None or self._resumed("warm_start/adapter"):
            return
        with self.stopwatch.timed("warm start"):
            trainer = WarmStart(
                model=self.model,
                args=self.sft,
                train_dataset=Dataset.from_list(self.imitated),
                processing_class=self.tokenizer,
                callbacks=[JsonLines(self.folder / "metrics.jsonl", "warm_start")],
            )
            if self.recipe.learning.answer_weight != 1.0:
                trainer.weigh(self.recipe.learning.answer_weight, self._answer_words())
            trainer.keep("seconds", self.stopwatch)
            one_line_a_step(trainer)
            self._train(trainer)
        self._save("warm_start/adapter")

    def grpo(self) -> None:
        """GRPO on the same LoRA: sample groups, verify, update."""
        if self._resumed("adapter"):
            return
        if self.grpo_config.max_steps == 0:  # the recipe wants the warm start alone
            return self._save("adapter")
        rows = grpo_rows(self.pool, self.recipe.learning, self.grpo_config, self._render)
        truths = {q.id: str(q.truth["answer"]) for q in self.train if self.templates[q.task].slot_words}
        watcher = Watcher(self.recipe, self.folder, truths)
        with self.stopwatch.timed("grpo"):
            trainer = Trainer(
                self.recipe,
                self.layer,
                self.folder / "rollouts",
                self._answer_words(),
                model=self.model,
                args=self.grpo_config,
                train_dataset=Dataset.from_list(rows),
                processing_class=self.tokenizer,
                callbacks=[JsonLines(self.folder / "metrics.jsonl", "grpo"), watcher],
            )
            trainer.keep("seconds", self.stopwatch)
            one_line_a_step(trainer)
            self._train(trainer)
        watcher.refuse_to_go_on()
        self._save("adapter")

    def report(self) -> None:
        """report.json, report.html, and the short of it in the terminal."""
        if not self.state.is_main_process:
            return
        document = assemble(
            self.folder, self.recipe, self.sources, self.templates, self.questions, self.stopwatch.state()
        )
        page = write_report(self.folder)
        print(terminal_summary(document))
        print(f"report: {page}")

    def _render(self, question: Question) -> prompts.Messages:
        return self.templates[question.task].render(question)

    def _train(self, trainer: Any) -> None:
        """Under autocast accelerate wraps the model's forward and leaves it so: probabilities at the answer slot would
        be rounded to bfloat16 (64 questions had 7 distinct ones)."""
        with masked_positions_skipped():
            trainer.train()
        trainer.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def _answer_words(self) -> set[int]:
        """The first tokens of the answers that prompts with a closed set of them allow."""
        closed = [template.slot_words for template in self.templates.values() if template.slot_words]
        return {token for words in closed for token in policy.AnswerSlot(self.tokenizer, words).words}

    def _save(self, name: str) -> None:
        self._finished()  # first: once the adapter is there, nothing else brings the counts back
        if self.state.is_main_process:
            policy.save_adapter(self.model, self.folder / name, self.recipe.model, self.base_hash)
        self.state.wait_for_everyone()

    def _made_of(self) -> dict[str, Any]:
        """What a run that goes on must share with its beginning, beside the recipe."""
        texts = [*(template.digest for template in self.templates.values()), *(q.to_json() for q in self.questions)]
        return {
            "world_size": self.state.num_processes,
            "base_sha256": self.base_hash,
            "questions_sha256": sha256("\n".join(texts).encode()).hexdigest(),
        }

    def _finished(self) -> None:
        """After a stage, keep what outlives it: the counts of the verifiers, and the time that was spent."""
        write_states(self._stages, {"rewards": self.layer, "seconds": self.stopwatch})
        self.state.wait_for_everyone()

    def _resumed(self, name: str) -> bool:
        """Whether an earlier start has finished this adapter, which is then the model's."""
        if not (self.folder / name).is_dir():
            return False
        load_weights(self.model, self.folder / name)
        return True


def _refuse(problem: str | None) -> None:
    if problem:
        raise Error(problem)
