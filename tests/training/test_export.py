"""`rlvr export`: what is written loads elsewhere, computes the same, and says what it is."""

from __future__ import annotations

import json
import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from rlvr import policy
from rlvr.cli import app
from rlvr.evaluation.provenance import versions
from rlvr.recipe import load
from rlvr.training.export.card import _cell
from rlvr.training.export.write import base_name, export
from rlvr.types import Error
from tests import run_directory, tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.make(tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=10)
    return folder


def make_run(folder: Path, model: Path, *overrides: str) -> Path:
    """A finished run: its recipe, its records, and an adapter that does something."""
    recipe = load("quickstart", [f"model={model}", "lora.layers_to_transform=null", f"output_dir={folder}", *overrides])
    run_directory.make(folder, hostile=False, steps=1)
    report = {**run_directory.report(), "n_train": 900, "allow_leak": None, "headline": "Beats the best shortcut: no."}
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    (folder / "versions.json").write_text(json.dumps(versions()))
    base, _ = policy.load_base(str(model))
    digest = policy.fingerprint(base)
    torch.manual_seed(0)
    tuned = policy.add_lora(base, recipe.lora)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    policy.save_adapter(tuned, folder / "adapter", str(model), digest)
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", model)


def ids(model: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(model)
    messages = [{"role": "user", "content": "Does a knockdown of CD3E change IL-2?"}]
    return torch.tensor([tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)])


@torch.no_grad()
def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=tokens).logits
    return found


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def trained(run: Path, model: Path) -> torch.Tensor:
    """What the run's own adapter computes."""
    return logits(policy.load_adapter(policy.load_base(str(model))[0], run / "adapter"), ids(model))


def test_the_adapter_computes_the_same(run: Path, model: Path, tmp_path: Path) -> None:
    before = contents(model), contents(run)
    out = export(run, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    plain = logits(base, ids(model))
    loaded = PeftModel.from_pretrained(base, out)
    assert torch.equal(logits(loaded, ids(model)), trained(run, model))
    assert (plain - trained(run, model)).abs().max() > 0.1  # the adapter does something
    assert policy.load_adapter(policy.load_base(str(model))[0], out) is not None  # with its base's hash
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(model).chat_template
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(model)
    assert (contents(model), contents(run)) == before


def test_the_merged_model_computes_the_same(run: Path, model: Path, tmp_path: Path) -> None:
    before = contents(model), contents(run)
    out = export(run, tmp_path / "merged", merged=True)
    assert not (out / "adapter_config.json").exists()
    whole = AutoModelForCausalLM.from_pretrained(out)
    assert whole.dtype == torch.float32
    assert not any("lora" in name for name, _ in whole.named_parameters())
    assert torch.allclose(logits(whole, ids(model)), trained(run, model), atol=1e-4)
    assert torch.equal(whole.get_input_embeddings().weight, whole.get_output_embeddings().weight)  # still tied
    AutoTokenizer.from_pretrained(out).apply_chat_template([{"role": "user", "content": "x"}])
    assert (contents(model), contents(run)) == before


def test_a_bfloat16_base_is_merged_in_float32_and_cast_once(run: Path, model: Path, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow"
    shutil.copytree(model, narrow)
    AutoModelForCausalLM.from_pretrained(model).to(torch.bfloat16).save_pretrained(narrow)
    own = make_run(tmp_path / "run", narrow)
    out = export(own, tmp_path / "merged", merged=True)
    whole = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert whole.dtype == torch.bfloat16
    tuned = policy.load_adapter(policy.load_base(str(narrow))[0], own / "adapter")
    layer = tuned.base_model.model.model.layers[1].mlp.up_proj
    once = (layer.base_layer.weight + layer.get_delta_weight("default")).to(torch.bfloat16)
    assert torch.equal(whole.model.layers[1].mlp.up_proj.weight, once)


def test_the_card_says_what_binds_and_how_it_did(run: Path, tmp_path: Path) -> None:
    for merged in (False, True):
        out = export(run, tmp_path / f"out{merged}", merged=merged)
        text = (out / "README.md").read_text()
        head = yaml.safe_load(text.split("---\n")[1])
        assert head["library_name"] == ("transformers" if merged else "peft")
        assert "tcell_cytokines" in text and "10.1126/science.abj4008" in text
        assert "| neighbours | 0.5 | no |" in text and "| label | 1.0 | no |" in text
        assert "Beats the best shortcut: no." in text
        assert re.search(r"^\| trained \| 0\.817 \[0\.\d+, 0\.\d+\], n = 240 \|", text, re.MULTILINE)
        assert "| shortcut: evidence_vote | 0.850" in text
        assert "Share of answers that parse: untrained 0.000" in text and "; trained 0.996 [" in text
        assert f"- trl {versions()['trl']}" in text
        assert "{{" not in text and "{%" not in text and "\n\n\n" not in text
        for line in text.splitlines():  # every table is whole
            if line.startswith("| ") and "---" not in line:
                assert line.endswith("|")


def test_the_card_names_a_licence_that_forbids_commerce(model: Path, tmp_path: Path) -> None:
    source = "source={name: perturbqa, context: k562, task: direction, evidence: 3}"
    own = make_run(tmp_path / "run", model, source)
    text = (export(own, tmp_path / "out") / "README.md").read_text()
    assert "**Not for commercial use**: perturbqa" in text


@pytest.mark.parametrize("merged", [False, True])
def test_the_code_on_the_card_runs(
    run: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merged: bool
) -> None:
    out = export(run, tmp_path / "out", merged=merged)
    (code,) = re.findall(r"^```python\n(.*?)^```", (out / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(out)
    names: dict[str, Any] = {}
    exec(code, names)
    assert torch.allclose(logits(names["model"], ids(model)), trained(run, model), atol=1e-4)


@pytest.mark.parametrize("missing", ["recipe.yaml", "adapter/adapter_config.json", "adapter/base.json", "report.json"])
def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path, missing: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / missing).unlink()
    with pytest.raises(Error, match=re.escape(Path(missing).name)):
        export(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(Error, match="exists"):
        export(run, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_adapter_of_another_base_is_refused(run: Path, model: Path, tmp_path: Path) -> None:
    other: Path = tiny.make(tmp_path / "other", tiny.planted(), steps=1, seed=1)
    shutil.copytree(run, tmp_path / "run")
    values = yaml.safe_load((run / "recipe.yaml").read_text())
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump({**values, "model": str(other)}))
    with pytest.raises(Error, match="another base"):
        export(tmp_path / "run", tmp_path / "out")


def test_a_failure_leaves_nothing(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "versions.json").write_text("{")
    with pytest.raises(Error, match=r"versions\.json"):
        export(tmp_path / "run", tmp_path / "out", merged=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_names_and_cells() -> None:
    assert base_name("smollm2-135m") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert base_name("Qwen/Qwen2.5-3B-Instruct") == "Qwen/Qwen2.5-3B-Instruct"
    assert _cell("a|b\n<script>") == "a\\|b &lt;script>"


def test_the_command(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run), "--to", str(tmp_path / "out")])
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / "out")
    assert {"README.md", "adapter_model.safetensors", "base.json", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
