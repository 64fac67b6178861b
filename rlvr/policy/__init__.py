"""The policy: load a base model with one LoRA, sample it, and read the probability of each answer.

Samplers with one interface, `answer()`: transformers (any machine), vLLM (LoRA requests, no merge), and any
OpenAI-compatible server. Each puts the model's own thought before a forced answer slot and reads the probability
of each allowed answer there, so that a model that never learned the format is still measured by what it would
answer. What was saved elsewhere is read by `SavedCompletions`.
"""

from __future__ import annotations

from rlvr.policy.adapter import adapter_digest, add_lora, check_adapter, load_adapter, lora_rank, save_adapter
from rlvr.policy.engine import VllmSampler
from rlvr.policy.local import TransformersSampler, load_base
from rlvr.policy.saved import SavedCompletions
from rlvr.policy.server import Server, ServerSampler
from rlvr.policy.slot import Answered, AnswerSlot, Broken, Progress, Sampler
from rlvr.policy.weights import fingerprint, fingerprint_of

__all__ = [
    "AnswerSlot",
    "Answered",
    "Broken",
    "Progress",
    "Sampler",
    "SavedCompletions",
    "Server",
    "ServerSampler",
    "TransformersSampler",
    "VllmSampler",
    "adapter_digest",
    "add_lora",
    "check_adapter",
    "fingerprint",
    "fingerprint_of",
    "load_adapter",
    "load_base",
    "lora_rank",
    "save_adapter",
]
