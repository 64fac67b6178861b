"""A tiny policy made from a recipe's own text: tokenizer, chat template, and a warm start, in seconds.

Real machinery at a small size: a Llama of a few hundred thousand parameters that transformers, PEFT and
TRL load from a folder like any other model. The world it lives in is planted (`planted`): the real prompts
of the quickstart, where the answer is what the most related knockdown did. The warm start follows that
rule only part of the time, so that there is something left for rewards to teach.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlvr import prompts
from rlvr.loading import gather
from rlvr.questions.rationales import rows
from rlvr.recipe import load
from rlvr.types import Question

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|unk|>"]


def planted(evidence: int = 1) -> list[Question]:
    """The quickstart's questions, each answered by its nearest evidence."""
    recipe = load("quickstart", [f"source.evidence={evidence}"])
    asked = [q for q in gather(recipe)[1] if q.fields["evidence"]]
    told = [
        dataclasses.replace(q, truth={**q.truth, "answer": q.fields["evidence"][0]["answer"], "neighbours": None})
        for q in asked
    ]
    # As many of each answer, so that nothing is to be had from always giving the commonest.
    groups = Counter((q.split, q.truth["answer"]) for q in told)
    least = {split: min(n for (other, _), n in groups.items() if other == split) for split, _ in groups}
    seen: Counter[tuple[str, str]] = Counter()
    return [q for q in told if (seen.update([key := (q.split, q.truth["answer"])]) or seen[key]) <= least[q.split]]


def make(folder: Path, questions: Sequence[Question], *, follows: float = 0.5, steps: int = 160, seed: int = 0) -> Path:
    """A warm-started tiny model in `folder`. It answers as the evidence says in a share `follows` of its
    examples and at random in the rest: a policy that is not sure."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    template = prompts.load(questions[0].task)
    tokenizer = _tokenizer([turn["content"] for q in questions for turn in _turns(q, template)])
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    train = [q for q in questions if q.split == "train"]
    labels = list(template.slot_words.values())
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        texts, starts = [], []
        for question in rng.sample(train, 24):
            if rng.random() > follows:
                question = dataclasses.replace(question, truth={"answer": rng.choice(labels)})
            turns = _turns(question, template)
            texts.append(tokenizer.apply_chat_template(turns, return_dict=False))
            starts.append(len(tokenizer.apply_chat_template(turns[:2], add_generation_prompt=True, return_dict=False)))
        width = max(map(len, texts))
        ids = torch.full((len(texts), width), tokenizer.pad_token_id)
        target = torch.full((len(texts), width), -100)
        for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
            ids[row, : len(text)] = torch.tensor(text)
            target[row, start : len(text)] = torch.tensor(text[start:])
        loss = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _turns(question: Question, template: prompts.Template) -> list[dict[str, str]]:
    row = rows(dataclasses.replace(question, split="train"), template)
    return [*row["prompt"], *row["completion"]]


def _tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Whole words: a sequence is a third as long as with byte pairs, and so is a test."""
    core = Tokenizer(models.WordLevel(unk_token="<|unk|>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator([*texts, *alphabet], trainers.WordLevelTrainer(special_tokens=SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        unk_token="<|unk|>",
        chat_template=CHAT,
        clean_up_tokenization_spaces=False,
    )
