"""Conversations through a model's chat template, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2

from rlvr.prompts import Messages
from rlvr.types import Error


def encode(tokenizer: Any, conversations: Sequence[Messages], answered: bool = False) -> list[list[int]]:
    """Token ids of each conversation. answered: it ends in the assistant's turn; else the template opens that turn, as
    when the policy is asked. Errors: a template that refuses the conversation, as some do any system turn."""
    if not conversations:
        return []
    try:
        ids: list[list[int]] = tokenizer.apply_chat_template(
            list(conversations), add_generation_prompt=not answered, return_dict=False
        )
    except jinja2.TemplateError as error:
        why = " ".join(str(error).split())[:200]
        cure = "; write a prompt whose text all stands below `# user`, and name it in the recipe's `prompt`"
        system = any(turn["role"] == "system" for messages in conversations for turn in messages)
        raise Error(f"the model's chat template refuses the prompt: {why}{cure if system else ''}") from error
    return ids
