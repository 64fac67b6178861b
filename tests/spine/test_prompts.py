"""Templates: the shipped ones, the truth that none can show, and the mistakes of who writes one."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr import plugins, prompts
from rlvr.completions import parse
from rlvr.plugins import folders
from rlvr.testing.questions import embedded, sample_questions
from rlvr.types import Error
from rlvr.verifier import Verifier

REWORDED = "_reworded"  # the same task in other words (rlvr/evaluation/reasoning)
SHIPPED = sorted(
    str(path.relative_to(folder).with_suffix("")) for folder in folders("prompts") for path in folder.rglob("*.md")
)
LABELS = {
    "perturbation/effect": {"yes", "no"},
    "perturbation/direction": {"up", "down"},
    "perturbation/response": {"none", "up", "down"},
}
HEAD = "---\ntask: perturbation/direction\nversion: 1\nanswers: {up: up, down: down}\n---\n"


def asking(make_question, name, **options):
    """A question of the template's task, its evidence in that task's labels."""
    labels = sorted(LABELS[name])
    evidence = [
        {"perturbation": gene, "answer": label, "similarity": 50, "shared": "T cell activation"}
        for gene, label in zip(["LAT", "CBLB", "VAV1"], labels, strict=False)
    ]
    return make_question(task=name, fields={"evidence": evidence}, truth={"answer": labels[0]}, **options)


def written(tmp_path, body, head=HEAD):
    path = tmp_path / "mine.md"
    path.write_text(head + body)
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_prompt_asks_real_questions(name):
    """Each renders, says how to answer, and its own right answer reads back."""
    template, task = prompts.load(name), name.removesuffix(REWORDED)
    questions = sample_questions(task)
    assert template.task == task and questions
    for question in questions:
        shown = "\n".join(turn["content"] for turn in template.render(question))
        assert "<think></think>" in shown and "<answer></answer>" in shown
        assert "{{" not in shown and "{%" not in shown
        assert template.answers.read(template.word(question.truth["answer"]), question.fields) is not None


@pytest.mark.parametrize("name", SHIPPED)
def test_every_task_has_verifiers_to_begin_with(name):
    """They load, they judge every real question of the task, and the first one gives the right answer full marks."""
    template, questions = prompts.load(name), sample_questions(name.removesuffix(REWORDED))
    assert template.verifiers[-1] == "format"
    opened = [embedded(plugins.load("verifiers", verifier, Verifier)()) for verifier in template.verifiers]
    for question in questions:
        assert all(verifier.applies(question) for verifier in opened)
        honest = opened[0].honest(question)
        text = f"<think>{honest.thought or 'So it is.'}</think><answer>{template.word(honest.answer)}</answer>"
        verdict = opened[0].verify(question, parse(text, template.answers, question.fields))
        assert verdict.score == 1.0 or opened[0].kind == "soft"


@pytest.mark.parametrize("name", LABELS)
def test_closed_perturbation_tasks(make_question, name):
    template = prompts.load(name)
    question = asking(make_question, name)
    system, user = template.render(question)
    assert (system["role"], user["role"]) == ("system", "user")
    assert template.task == name
    assert set(template.slot_words.values()) == LABELS[name]
    shown = system["content"] + user["content"]
    for word, label in template.slot_words.items():
        assert word in shown
        assert template.slot_words[template.word(label)] == label
    for field in ("perturbation", "readout", "context"):
        assert question.fields[field] in user["content"]
    for item in question.fields["evidence"]:
        assert item["perturbation"] in user["content"]
    assert "{{" not in shown and "{%" not in shown
    assert len(template.digest) == 64


@pytest.mark.parametrize("name", LABELS)
def test_a_question_without_evidence_can_be_asked(make_question, name):
    template = prompts.load(name)
    bare = make_question(task=name, fields={"evidence": []})
    assert bare.fields["perturbation"] in template.render(bare)[-1]["content"]


@pytest.mark.parametrize("name", LABELS)
@given(truth=st.dictionaries(st.sampled_from(["answer", "neighbours", "core", "perturbation"]), st.text()))
def test_no_truth_shows(make_question, name, truth):
    template = prompts.load(name)
    question = asking(make_question, name)
    assert template.render(dataclasses.replace(question, truth=truth)) == template.render(question)


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("field", ["perturbation", "readout", "context", "evidence"])
def test_a_missing_field_is_an_error(make_question, name, field):
    question = asking(make_question, name)
    rest = {key: value for key, value in question.fields.items() if key != field}
    with pytest.raises(Error, match=f"question {question.id}: '{field}' is undefined"):
        prompts.load(name).render(dataclasses.replace(question, fields=rest))


def test_template_code_in_the_data_is_not_run(make_question):
    question = make_question(fields={"perturbation": "{{ 6 * 7 }}{% raw %}"})
    assert "{{ 6 * 7 }}{% raw %}" in prompts.load("perturbation/direction").render(question)[-1]["content"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("{{ truth }}", "'truth' is undefined"),
        ("{{ question.truth }}", "'question' is undefined"),
        ("{{ evidence[0].nothing }}", "no attribute 'nothing'"),
        ("{{ perturbation.__class__ }}", "unsafe"),
        ("{{ perturbation.__class__.__mro__ }}", "unsafe"),
        ("{{ ''|attr('__class__') }}", "unsafe"),
        ("{{ '{0.__class__}'.format(perturbation) }}", "unsafe"),
        ("{{ evidence.append(1) }}", "unsafe"),
        ("{% for i in range(1000000000) %}x{% endfor %}", "Range too big"),
        ("{% include '/etc/hostname' %}", "no loader"),
        ("{{ perturbation + 1 }}", "TypeError"),
        ("{% if %}", "Expected an expression"),
        ("{{ perturbation", "unexpected end of template"),
    ],
)
def test_what_a_template_may_not_do(make_question, tmp_path, code, message):
    template = prompts.load(written(tmp_path, f"# system\nx\n# user\n{code}\n"))
    with pytest.raises(Error, match=message) as caught:
        template.render(make_question())
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "mine.md") in str(caught.value)


def test_words_that_yaml_takes_for_truth_values_stay_words(tmp_path):
    head = "---\ntask: perturbation/effect\nversion: 1\nanswers: {yes: yes, No: no}\n---\n"
    template = prompts.load(written(tmp_path, "# system\nx\n# user\ny\n", head))
    assert template.slot_words == {"yes": "yes", "no": "no"}
    assert template.version == "1"


@pytest.mark.parametrize(
    ("body", "head", "message"),
    [
        ("# system\nx\n# user\ny", "task: x\n", "between two lines of ---"),
        ("# system\nx\n# user\ny", "---\ntask: x\n---\n", "needs task, version and answers"),
        ("# system\nx\n# user\ny", "---\n- a\n---\n", "needs task, version and answers"),
        ("# system\nx\n# user\ny", "---\ntask: x\nversion: 1\nanswers: [up]\n---\n", "must map each allowed word"),
        ("# system\nx\n# user\ny", "---\ntask: x\nversion: 1\nanswers: {}\n---\n", "must map each allowed word"),
        ("# system\nx\n# user\ny", "---\ntask: [x\n---\n", "not valid YAML"),
        ("# user\ny", HEAD, "a line '# system'"),
        ("# system\ny", HEAD, "then a line '# user'"),
        ("# system\ny ## user\nz", HEAD, "then a line '# user'"),
    ],
)
def test_mistakes_in_a_file(tmp_path, body, head, message):
    with pytest.raises(Error, match=message) as caught:
        prompts.load(written(tmp_path, body, head))
    assert "\n" not in str(caught.value)


def test_an_empty_system_part_is_left_out(make_question, tmp_path):
    template = prompts.load(written(tmp_path, "# system\n# user\nWhat of {{ perturbation }}?\n## user\n"))
    assert template.render(make_question()) == [{"role": "user", "content": "What of ZAP70?\n## user"}]


def test_the_nearest_prompt_is_suggested():
    with pytest.raises(Error, match="did you mean 'perturbation/direction'"):
        prompts.load("perturbation/dirrection")


def test_a_question_of_another_task_is_refused(make_question):
    with pytest.raises(Error, match="is for task perturbation/direction, question"):
        prompts.load("perturbation/direction").render(make_question(task="perturbation/effect"))


def test_a_label_without_a_word_is_an_error():
    with pytest.raises(Error, match="no allowed answer has the label 'sideways'"):
        prompts.load("perturbation/direction").word("sideways")
