"""One clear error per fault of a table."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.tables import DATE, check, require
from rlvr.types import Error


def table(**changes: list[Any]) -> pd.DataFrame:
    rows = {
        "perturbation": ["ZAP70", "CBLB"],
        "readout": ["IL-2", "IL-2"],
        "context": ["cd4", "cd4"],
        "label": ["down", "up"],
        "split": ["train", "test"],
    }
    return pd.DataFrame(rows | changes)


def test_a_canonical_table_passes() -> None:
    check(table(), ("up", "down"), "here")
    check(table(perturbation=["MARCHF1", "SEPTIN2"], readout=["DEC1", "NOV"]), ("up", "down"), "here")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"perturbation": ["ZAP70", None]}, "row 2 of 2: column 'perturbation' is empty"),
        ({"readout": [" ", "IL-2"]}, "row 1 of 2: column 'readout' is empty"),
        ({"label": ["down", float("nan")]}, "column 'label' is empty"),
        ({"label": ["down", "1"]}, "row 2 of 2 ('1'): label is none of up, down"),
        ({"split": ["train", "dev"]}, "('dev'): split is none of train, validation, test"),
        ({"perturbation": ["ZAP70", "ZAP70"]}, "row 2 of 2 ('ZAP70'): the same perturbation, readout, context"),
        ({"perturbation": ["1-Mar", "CBLB"]}, "('1-Mar'): perturbation is a date"),
        ({"readout": ["IL-2", "Sep-02"]}, "('Sep-02'): readout is a date"),
        ({"readout": ["IL-2", "2019-03-01 00:00:00"]}, "readout is a date"),
    ],
)
def test_each_fault_is_one_line_that_says_where(changes: dict[str, list[Any]], said: str) -> None:
    with pytest.raises(Error) as caught:
        check(table(**changes), ("up", "down"), "screens.tsv")
    message = str(caught.value)
    assert said in message
    assert message.startswith("screens.tsv: row ")
    assert "\n" not in message


def test_a_missing_column_names_those_that_are_there() -> None:
    with pytest.raises(Error, match=r"here: column 'label' is missing; it has perturbation, readout, context, split"):
        check(table().drop(columns="label"), ("up", "down"), "here")
    with pytest.raises(Error, match="'pert' is missing"):
        require(pd.DataFrame({"gene": []}), ("pert",), "here")


@given(
    st.sampled_from(["MARCH", "SEPT", "DEC", "OCT", "NOV", "HLA-", "FEB", "JUN", "MIR-", "let-"]), st.integers(1, 31)
)
def test_a_date_is_told_from_the_symbol_that_it_was(stem: str, number: int) -> None:
    assert not DATE.fullmatch(f"{stem}{number}")
    if stem[:3].isalpha() and stem[:3] not in ("HLA", "MIR", "let"):
        month = stem[:3].capitalize()
        for text in (f"{number}-{month}", f"{month}-{number:02}", f"{number}.{month}", f"{number} {stem.lower()}"):
            assert DATE.fullmatch(text), text


def test_no_rows_is_an_error() -> None:
    with pytest.raises(Error, match="no rows"):
        check(table().iloc[:0], ("up", "down"), "here")
