"""A chat template that will not have the prompt is one line, wherever the prompt goes through it."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest

from rlvr.policy.chat import encode
from rlvr.training.checks import token_counts
from rlvr.types import Error

ASKED = [{"role": "system", "content": "Reason."}, {"role": "user", "content": "Up or down?"}]


class Strict:
    """A tokenizer whose template is Gemma's in this: no system turn."""

    def apply_chat_template(self, messages: Any, add_generation_prompt: bool, return_dict: bool) -> Any:
        if isinstance(messages[0], list):
            return [self.apply_chat_template(one, add_generation_prompt, return_dict) for one in messages]
        if any(turn["role"] == "system" for turn in messages):
            raise jinja2.TemplateError("System role not supported")
        return [1, 2, 3] if add_generation_prompt else [1, 2]


def test_a_system_turn_that_is_refused_is_one_line_with_its_cure() -> None:
    for ask in (lambda: encode(Strict(), [ASKED]), lambda: token_counts(Strict(), {"q": ASKED})):
        with pytest.raises(Error, match="refuses the prompt: System role not supported; write a prompt whose") as said:
            ask()
        assert "\n" not in str(said.value)


def test_other_prompts_pass() -> None:
    assert encode(Strict(), [ASKED[1:]]) == [[1, 2, 3]]
    assert token_counts(Strict(), {"q": ASKED[1:]}, answered=True) == {"q": 2}
