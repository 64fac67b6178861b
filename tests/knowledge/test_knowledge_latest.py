"""`rlvr knowledge build --release latest`, against a server on this machine that answers as the official sites do."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlvr.cli import app
from rlvr.knowledge import build, latest
from rlvr.knowledge.latest import SITES, Site, fetch_latest
from rlvr.knowledge.releases import UPSTREAM
from rlvr.types import Error

GENES = (
    "hgnc_id\tsymbol\tprev_symbol\talias_symbol\tensembl_gene_id\tuniprot_ids\n"
    "HGNC:1\tAARS1\tAARS\t\tENSG00000090861\tP49588\nHGNC:2\tLCK\t\tp56lck\tENSG00000182866\tP06239\n"
)
ORTHOLOGS = (
    "Gene stable ID\tGene name\tMouse gene name\tMouse homology type\tMouse orthology confidence [0 low, 1 high]\n"
    "ENSG00000182866\tLCK\tLck\tortholog_one2one\t1\n"
)
GO = (
    "format-version: 1.2\ndata-version: releases/2026-10-19\n\n"
    "[Term]\nid: GO:0008150\nname: biological_process\nnamespace: biological_process\n\n"
    "[Term]\nid: GO:0050852\nname: T cell receptor signaling pathway\nnamespace: biological_process\n"
    "is_a: GO:0008150\n"
)
PROTEIN = ["UniProtKB", "P06239", "LCK", "involved_in", "GO:0050852", "PMID:1", "IDA", "", "P", "", "", "protein"]
ROW = [*PROTEIN, "taxon:9606", "20260101", "UniProt", "", ""]
GAF = "!gaf-version: 2.2\n!\n!date-generated: 2026-10-21\n" + "\t".join(ROW) + "\n"
CELLS = "format-version: 1.2\ndata-version: releases/2026-09-30\n\n[Term]\nid: CL:0000084\nname: T cell\n"
GMT = "TCR signaling\tR-HSA-202403\tLCK\tAARS1\n"


def zipped(text: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("ReactomePathways.gmt", text)
    return held.getvalue()


@pytest.fixture
def served() -> Iterator[tuple[dict[str, bytes], dict[str, Site], list[str]]]:
    """What each address answers (to be changed), the sites, and the addresses that were asked for."""
    answers = {
        "/hgnc.txt": GENES.encode(),
        "/martservice": f"{ORTHOLOGS}[success]\n".encode(),
        "/ensembl": b'{"releases":[115]}',
        "/go.obo": GO.encode(),
        "/goa.gaf.gz": gzip.compress(GAF.encode()),
        "/r.gmt.zip": zipped(GMT),
        "/reactome": b"94",
        "/cl.obo": CELLS.encode(),
    }
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            self.send_response(200 if path in answers else 404)
            self.send_header("Last-Modified", "Tue, 13 Oct 2026 04:05:06 GMT")
            self.end_headers()
            self.wfile.write(answers.get(path, b"gone"))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    own = {
        "genes": ("/hgnc.txt", ""),
        "orthologs": ("/martservice?query=x", "/ensembl"),
        "ontology": ("/go.obo", ""),
        "annotation": ("/goa.gaf.gz", ""),
        "pathways": ("/r.gmt.zip", "/reactome"),
        "cells": ("/cl.obo", ""),
    }
    assert own.keys() == SITES.keys()
    sites = {
        part: Site(at + url, SITES[part].name, SITES[part].version, version and at + version)
        for part, (url, version) in own.items()
    }
    yield answers, sites, asked
    server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path))
    return tmp_path


def test_each_file_comes_with_its_version_and_checksum(served, cache: Path) -> None:
    _, sites, asked = served
    files = fetch_latest(sites)
    assert {part: path.name for part, path in files.items()} == {
        "genes": "hgnc_complete_set_2026-10-13.txt",  # the site's day: the file names no version
        "orthologs": "ensembl_115_human_to_mouse.tsv",
        "ontology": "go-basic_2026-10-19.obo",
        "annotation": "goa_human_2026-10-21.gaf.gz",
        "pathways": "ReactomePathways_94.gmt",
        "cells": "cl-basic_2026-09-30.obo",
    }
    manifest = json.loads((files["genes"].parent / "manifest.json").read_text())
    for part, path in files.items():
        assert manifest[part]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert manifest[part]["url"] == sites[part].url
    assert files["orthologs"].read_text() == ORTHOLOGS and files["pathways"].read_text() == GMT
    asked.clear()
    assert fetch_latest(sites) == files and asked == []  # once a day


def test_a_knowledge_base_is_built_from_them_and_says_so(served, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sites, _ = served
    files = fetch_latest(sites)
    monkeypatch.setattr("rlvr.knowledge.assemble.UPSTREAM", {p: o for p, o in UPSTREAM.items() if p in files})
    base = build(files)
    assert base.resolve("AARS") == "AARS1" and base.ortholog("LCK") == ("Lck",)
    assert {"GO:0050852", "R-HSA-202403"} <= set(base.terms("LCK"))
    assert base.term("CL:0000084").name == "T cell"
    releases = {release.source: release for release in base.releases()}
    assert releases["Gene Ontology"].release == "go-basic_2026-10-19.obo"
    assert releases["Gene Ontology"].sha256 == hashlib.sha256(GO.encode()).hexdigest()


@pytest.mark.parametrize(
    ("address", "answer", "said"),
    [
        ("/go.obo", b"<html>moved</html>", "ontology: .*does not say its version"),
        ("/goa.gaf.gz", b"<html>moved</html>", "annotation: .*no gzip file"),
        ("/r.gmt.zip", b"PK cut short", "pathways: .*no archive of one file"),
        ("/martservice", b"Query ERROR: caught BioMart::Exception", "orthologs: BioMart's answer is not whole"),
        ("/ensembl", b"{}", "orthologs: .*does not say its version"),
        ("/cl.obo", None, "cells: cannot fetch .*404"),
    ],
)
def test_a_site_that_answers_something_else_is_one_line_and_leaves_nothing(
    served, cache: Path, address: str, answer: bytes | None, said: str
) -> None:
    answers, sites, _ = served
    answers.pop(address) if answer is None else answers.update({address: answer})
    with pytest.raises(Error, match=said) as caught:
        fetch_latest(sites)
    assert "\n" not in str(caught.value)
    assert [path for path in (cache / "knowledge" / "latest").iterdir() if path.is_dir()] == []


def test_the_command_names_what_it_cannot_reach(served, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sites, _ = served
    gone = {**sites, "genes": Site("http://127.0.0.1:9/hgnc.txt", SITES["genes"].name)}
    monkeypatch.setattr(latest, "TRIES", 1)
    monkeypatch.setattr(latest, "SITES", gone)
    monkeypatch.setattr(fetch_latest, "__defaults__", (gone,))
    done = CliRunner().invoke(app, ["knowledge", "build", "--release", "latest"])
    said = str(done.exception)
    assert isinstance(done.exception, Error) and said.startswith("genes: cannot fetch http://127.0.0.1:9/hgnc.txt")
    assert "--file genes=PATH" in said
