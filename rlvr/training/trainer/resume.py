"""Training that can be killed at any moment and goes on where it was, bit by bit.

    class Trainer(Resuming, GRPOTrainer): ...         # likewise SFTTrainer
    trainer.train()                                   # from the newest whole checkpoint, or from the start

transformers 5.17 keeps weights, optimizer, schedule and each rank's random state, and reads them with
torch.load(weights_only=True). Added here: checkpoints that are whole or not there
(`rlvr.training.trainer.checkpoints`), the sums that the next log averages, the data order beyond the first epoch,
completions still to be trained on, everything `Resumable`, and an end to training that a checkpoint at the last step
does not overshoot.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, send_to_device
from peft import PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import Trainer as TransformersTrainer
from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from rlvr.training.trainer import checkpoints
from rlvr.training.trainer.state import Resumable, read_states, write_states
from rlvr.training.trainer.stop import SaveOnSigterm
from rlvr.types import Error

log = logging.getLogger(__name__)

# Counters of transformers' and TRL's loops that their own checkpoints leave out.
COUNTERS = ("_step", "_total_train_tokens", "_total_loss_scalar", "_globalstep_last_logged")
# Several ranks on the CPU: transformers 5.17 asks torch for tensors on "cpu:0", which torch 2.13 knows as "cpu" alone.
torch.serialization.register_package(
    0, lambda storage: None, lambda storage, location: storage if location.startswith("cpu:") else None
)
_TORCH_WRITES = re.compile("PytorchStreamWriter|inline_container")  # how torch.save says that the disk is full


class Resuming(TransformersTrainer):  # type: ignore[misc]
    """A transformers Trainer whose runs go on exactly. Ranks must see one file system."""

    def __init__(self, *args: Any, callbacks: Any = (), **options: Any) -> None:
        self._kept: dict[str, Resumable] = {}
        self._from: Path | None = None  # the checkpoint that this training goes on from
        self._side: Path | None = None  # where one is being written
        super().__init__(*args, callbacks=[*callbacks, SaveOnSigterm(), _Restoring(self)], **options)

    def keep(self, name: str, part: Resumable) -> None:
        """Save `part.state()` in each checkpoint, for each rank, and restore it when training goes on."""
        self._kept[name] = part

    def train(self) -> Any:
        """From the newest whole checkpoint in `args.output_dir`, or from the start."""
        home = Path(self.args.output_dir)
        found = [checkpoints.newest(home) if self.accelerator.is_main_process else None]
        self._from = broadcast_object_list(found)[0]
        if self.accelerator.is_main_process:
            for begun in home.glob(".partial/*"):
                log.warning("%s was not finished: ignored", begun)
            shutil.rmtree(home / ".partial", ignore_errors=True)
            self.forget(int(self._from.name.rpartition("-")[2]) if self._from else 0)
        self.accelerator.wait_for_everyone()
        return super().train(resume_from_checkpoint=str(self._from) if self._from else None)

    def forget(self, step: int) -> None:
        """Remove what a killed run has written after `step`; only the main process is asked."""

    def restore(self) -> None:
        """What the checkpoint keeps, once the loop has set its own counters to 0."""
        if self._from is None:
            return
        rank = self.accelerator.process_index
        read_states(self._from / f"state_rank{rank}.json", self._parts())
        unused = self._from / f"completions_rank{rank}.pt"
        if unused.is_file():
            kept = torch.load(unused, map_location="cpu", weights_only=True)
            self._buffered_inputs = send_to_device(kept, self.args.device)

    def _parts(self) -> dict[str, Resumable]:
        callbacks = {type(part).__name__: part for part in self.callback_handler.callbacks}
        own = {name: part for name, part in callbacks.items() if isinstance(part, Resumable)}
        return {"loop": _Loop(self), **own, **self._kept}

    def unused_completions(self) -> Any:
        """Tensors that later steps still train on, or None."""
        return None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._side or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        home, name, rank = Path(self.args.output_dir), f"checkpoint-{self.state.global_step}", self.args.process_index
        side = home / ".partial"
        if (home / name).exists():
            return  # a step is saved once, though an epoch may end with it
        with self._written_aside(side, name):
            super()._save_checkpoint(model, trial)
            write_states(side / name / f"state_rank{rank}.json", self._parts())
            if (unused := self.unused_completions()) is not None:
                torch.save(unused, side / name / f"completions_rank{rank}.pt")
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                checkpoints.publish(side / name, home)
                side.rmdir()
                rotate_checkpoints(str(home), self.args.save_total_limit)
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _written_aside(self, side: Path, name: str) -> Iterator[None]:
        """All of transformers' and TRL's writing goes to `side`; a full disk is one error and leaves nothing there."""
        if self.accelerator.is_main_process:
            shutil.rmtree(side, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._side = side
        try:
            yield
        except (OSError, SafetensorError, RuntimeError, Error) as error:
            if isinstance(error, RuntimeError) and not _TORCH_WRITES.search(str(error)):
                raise
            shutil.rmtree(side, ignore_errors=True)
            why = " ".join(str(error).split())
            raise Error(
                f"cannot save {name}: {why}; earlier ones are whole: free some space, and the same command goes on"
            ) from error
        finally:
            self._side = None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # Of an adapter with a frozen reference beside it transformers 5.17 would load the reference alone.
        bare = self.accelerator.unwrap_model(self.model)
        if self.is_fsdp_enabled or not isinstance(bare, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(bare, Path(resume_from_checkpoint))

    def _run_epoch(self, *, epoch: int, train_dataloader: Any, **options: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            return  # resumed at the last step, transformers 5.17 would take one more
        sampler: Any = getattr(train_dataloader, "batch_sampler", None)
        while hasattr(sampler, "batch_sampler"):  # accelerate 1.15 tells none behind its shards the epoch
            sampler = sampler.batch_sampler
        sampler = getattr(sampler, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **options)


def load_weights(model: PeftModel, folder: Path) -> None:
    """Put the weights of a saved adapter, safetensors only, into the LoRA that the model already has."""
    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"), adapter_name="default")


class _Loop:
    """Where transformers' and TRL's loops stand: their counters, and what the next log will average."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state(self) -> dict[str, Any]:
        counters = {name: getattr(self._trainer, name) for name in COUNTERS if hasattr(self._trainer, name)}
        return {"counters": counters, "loss": self._trainer._tr_loss.item(), "metrics": self._trainer._metrics["train"]}

    def restore(self, state: Any) -> None:
        for name, value in state["counters"].items():
            setattr(self._trainer, name, value)
        self._trainer._tr_loss.fill_(state["loss"])
        self._trainer._metrics["train"].update(state["metrics"])


class _Restoring(TrainerCallback):  # type: ignore[misc]
    def __init__(self, trainer: Resuming) -> None:
        self._trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._trainer.restore()
