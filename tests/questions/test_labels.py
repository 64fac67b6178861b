"""Labels of perturbations: controls in any spelling, guides, and several genes."""

from __future__ import annotations

import pytest

from rlvr.questions.biology.labels import genes_of, is_control, likely_controls

GENES = {
    "KLF1",
    "MID2",
    "GAB2",
    "TMEM161B",
    "NKX2-1",
    "HLA-A",
    "MT-CO1",
    "WT1",
    "NT5E",
    "LUC7L",
    "CTRL",
    "SCRT1",
    "NTS",
}
GENES |= {"CNTRL", "RFPL1", "GFPT1", "TET2", "IL2", "EGFR"}
CONTROLS = """non-targeting|nontargeting_7|NTC_12|NT_1|NegCtrl0|safe-targeting| ctrl |Control|control_3|neg_ctrl
negative_control_12|NEGATIVE CONTROL|Non-Targeting Control|non_targeting_guide_5|NonTargeting0031|NO-TARGET|ntc|NT|NT1
sgNTC|sgNT-2|safe_harbor|AAVS1|AAVS1_sg2|ROSA26|scramble|scrambled_2|SCR|intergenic_14|INTERGENIC393453|DMSO|DMSO_TF
[('DMSO_TF', 0.0, 'uM')]|vehicle|mock|untreated|unperturbed|empty_vector|luciferase_1|LacZ|EGFP|gfp_2|wild-type
ONE_NON_GENE_SITE_12|control+ctrl|ctrl_cells|non.targeting|Neg. control 4|nontarget|untransduced"""


@pytest.mark.parametrize("label", CONTROLS.replace("\n", "|").split("|"))
def test_controls_are_known_in_any_spelling(label: str) -> None:
    assert is_control(label)
    assert genes_of(label, GENES.__contains__) == []


@pytest.mark.parametrize("label", [*sorted(GENES - {"CTRL"}), "", "NA", "12", "drug_1", "TGFB1 control region"])
def test_genes_are_no_controls(label: str) -> None:
    assert not is_control(label)


@pytest.mark.parametrize(
    ("label", "genes"),
    [
        ("KLF1", ["KLF1"]),
        ("MID2_1", ["MID2"]),
        ("MID2-3", ["MID2"]),
        ("KLF1_sg2", ["KLF1"]),
        ("KLF1-g1", ["KLF1"]),
        ("sgKLF1", ["KLF1"]),
        ("sgKLF1_2", ["KLF1"]),
        ("KLF1 guide 2", ["KLF1"]),
        ("KLF1_P1P2", ["KLF1"]),
        ("KLF1_+_12997811.23-P1P2", ["KLF1"]),
        ("NKX2-1", ["NKX2-1"]),  # its own number
        ("NKX2-1_1", ["NKX2-1"]),
        ("HLA-A", ["HLA-A"]),
        ("GAB2_TMEM161B", ["GAB2", "TMEM161B"]),
        ("GAB2+TMEM161B", ["GAB2", "TMEM161B"]),
        ("GAB2|TMEM161B", ["GAB2", "TMEM161B"]),
        ("GAB2_1 TMEM161B_2".replace(" ", "+"), ["GAB2", "TMEM161B"]),
        ("HLA-A_NKX2-1", ["HLA-A", "NKX2-1"]),
        ("KLF1+ctrl", ["KLF1"]),
        ("KLF1_non-targeting", ["KLF1"]),
        ("KLF1_NTC", ["KLF1"]),
        ("unheard_of", ["unheard_of"]),
        ("A+B", ["A", "B"]),
    ],
)
def test_a_label_is_read_as_its_genes(label: str, genes: list[str]) -> None:
    assert genes_of(label, GENES.__contains__) == genes


def test_likely_controls_are_named() -> None:
    assert likely_controls({"KLF1", "NTC_2", "safe-targeting"}) == ["NTC_2", "safe-targeting"]
