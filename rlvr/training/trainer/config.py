"""A TRL configuration from a recipe section: sft, grpo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlvr.types import Error, suggest

# Ours where TRL differs. Scaled by its group's deviation, a difference of .02 weighs as much as right against wrong
# (arXiv:2503.20783).
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"grpo": {"scale_rewards": "none"}}


def checked_config(kind: type, section: str, options: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
    """A TRL configuration from a recipe section; a wrong key or value is one clear error."""
    fields = set(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for key in options:
        if key not in fields:
            raise Error(f"recipe: {section}: unknown key {key!r}{suggest(key, fields)} (trl.{kind.__name__})")
    try:
        return kind(**{**DEFAULTS.get(section, {}), **options, **fixed})
    except (TypeError, ValueError) as error:
        raise Error(f"recipe: {section}: {' '.join(str(error).split())}") from error
