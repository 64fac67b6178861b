"""The current official files, in the place of the pinned ones: `rlvr knowledge build --release latest`.

    files = fetch_latest()                      # part -> file in the cache, with version and checksum beside it
    base = rlvr.knowledge.build(files)

Benchmarks keep the pinned set (releases.py), which anyone can build again; this one is as new as its day. Every file is
fetched from its own site, whole or not at all; manifest.json beside the files says from where, which version, and the
sha256 of each. What was fetched today is not fetched again.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import httpx
from filelock import FileLock
from rich.console import Console
from rich.progress import track
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from rlvr.files import cache_dir, folder_aside
from rlvr.types import Error

TIMEOUT = httpx.Timeout(60.0, read=300.0)  # seconds; BioMart thinks for minutes before it sends
TRIES = 3
HEAD = 1 << 16  # bytes in which a file says its version
# A question to BioMart: human genes with their mouse orthologs. The stamp at the end says that the answer is whole.
STAMP = b"[success]"
QUERY = (
    '<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE Query>'
    '<Query virtualSchemaName="default" formatter="TSV" header="1" uniqueRows="1" completionStamp="1">'
    '<Dataset name="hsapiens_gene_ensembl" interface="default"><Filter name="with_mmusculus_homolog" excluded="0"/>'
    '<Attribute name="ensembl_gene_id"/><Attribute name="external_gene_name"/>'
    '<Attribute name="mmusculus_homolog_associated_gene_name"/>'
    '<Attribute name="mmusculus_homolog_orthology_type"/>'
    '<Attribute name="mmusculus_homolog_orthology_confidence"/></Dataset></Query>'
)


@dataclass(frozen=True)
class Site:
    """Where a part's current file lies. version: a pattern whose group is the version, in the file's head (unpacked)
    or, with `version_url`, in what that address answers; "" where the site names none, and the file's day stands for
    it. name: of the file here; {version} is filled in."""

    url: str
    name: str
    version: str = ""
    version_url: str = ""


SITES: Mapping[str, Site] = {
    "genes": Site(
        "https://storage.googleapis.com/public-download-files/hgnc/tsv/tsv/hgnc_complete_set.txt",
        "hgnc_complete_set_{version}.txt",
    ),
    "orthologs": Site(
        f"https://www.ensembl.org/biomart/martservice?query={quote(QUERY)}",
        "ensembl_{version}_human_to_mouse.tsv",
        r'"releases": ?\[(\d+)',
        "https://rest.ensembl.org/info/data/?content-type=application/json",
    ),
    "ontology": Site(
        "https://purl.obolibrary.org/obo/go/go-basic.obo",
        "go-basic_{version}.obo",
        r"(?m)^data-version: (?:releases/)?(\S+)$",
    ),
    "annotation": Site(
        "https://current.geneontology.org/annotations/goa_human.gaf.gz",
        "goa_human_{version}.gaf.gz",
        r"(?m)^!\s*date-generated: (\d{4}-\d\d-\d\d)",
    ),
    "pathways": Site(
        "https://reactome.org/download/current/ReactomePathways.gmt.zip",
        "ReactomePathways_{version}.gmt",
        r"(\d+)",
        "https://reactome.org/ContentService/data/database/version",
    ),
    "cells": Site(
        "https://purl.obolibrary.org/obo/cl/cl-basic.obo",
        "cl-basic_{version}.obo",
        r"(?m)^data-version: (?:releases/)?(\S+)$",
    ),
}


def fetch_latest(sites: Mapping[str, Site] = SITES) -> dict[str, Path]:
    """part -> the file of today, under the cache. Errors: a site out of reach or one that answers something else; what
    was fetched before is then left as it was, and nothing of today's stays."""
    today = datetime.now(UTC).date().isoformat()
    folder = cache_dir() / "knowledge" / "latest" / today
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{today}.lock")):
        if not folder.is_dir():
            with folder_aside(folder) as side:
                _fill(side, sites)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {part: folder / entry["file"] for part, entry in manifest.items() if part in sites}


def _fill(folder: Path, sites: Mapping[str, Site]) -> None:
    manifest = {}
    console = Console(stderr=True)
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        for part, site in track(sites.items(), "fetching", console=console, disable=not console.is_terminal):
            content, day = _fetched(client, part, site.url)
            content = _unpacked(content, part, site)
            version = _version(client, part, site, content) or day
            name = site.name.format(version=version)
            (folder / name).write_bytes(content)
            digest = sha256(content).hexdigest()
            manifest[part] = {"file": name, "version": version, "sha256": digest, "url": site.url}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def _fetched(client: httpx.Client, part: str, url: str) -> tuple[bytes, str]:
    """The content, and the day that the site gives it (today, where it gives none)."""
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx.TransportError),
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(max=10),
            reraise=True,
        ):
            with attempt:
                reply = client.get(url)
        reply.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Error(
            f"{part}: cannot fetch {url.partition('?')[0]}: {' '.join(str(error).split()) or type(error).__name__}; "
            f"check the network, or fetch the file yourself and name it: --file {part}=PATH"
        ) from error
    changed = reply.headers.get("last-modified", "")
    try:
        day = datetime.strptime(changed, "%a, %d %b %Y %H:%M:%S %Z").date()
    except ValueError:
        day = datetime.now(UTC).date()
    return reply.content, day.isoformat()


def _unpacked(content: bytes, part: str, site: Site) -> bytes:
    """The one file of a zip archive; BioMart's answer less its stamp. Errors: an archive or an answer cut short."""
    if site.url.endswith(".zip"):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                (member,) = archive.namelist()
                return archive.read(member)
        except (zipfile.BadZipFile, ValueError) as error:
            raise Error(f"{part}: {site.url} gave no archive of one file ({error}); try again later") from error
    if "martservice" in site.url:
        body = content.rstrip()
        if not body.endswith(STAMP):
            first = " ".join(content[:200].decode("utf-8", "replace").split())
            raise Error(f"{part}: BioMart's answer is not whole (it begins {first!r}); try again later")
        return body.removesuffix(STAMP)
    return content


def _version(client: httpx.Client, part: str, site: Site, content: bytes) -> str:
    if not site.version:
        return ""
    where = site.version_url or site.url
    if site.version_url:
        head = _fetched(client, part, site.version_url)[0][:HEAD]
    else:
        try:
            packed = site.name.endswith(".gz")
            head = gzip.GzipFile(fileobj=io.BytesIO(content)).read(HEAD) if packed else content[:HEAD]
        except (OSError, EOFError) as error:
            raise Error(f"{part}: {where} gave no gzip file ({error}); try again later") from error
    found = re.search(site.version, head.decode("utf-8", "replace"))
    if found is None:
        raise Error(f"{part}: {where} does not say its version where it should; its form may have changed")
    return re.sub(r"[^\w.-]", "_", found[1])
