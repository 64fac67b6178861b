"""Faults done to real runs of a tiny model: what happened, and what was lost once the same command was given again.

    python benchmarks/faults.py [--only SIGTERM ...]        writes benchmarks/results/faults.json, prints it as a table

Each run is that of benchmarks/kills.py: a warm start, then 16 GRPO steps, a checkpoint every third. The fault comes
once the checkpoint of step 3 is there. "Lost" is what the finished run does not share, bit by bit and but for timings,
with one that nothing was done to; "again" is how many steps had to be taken twice.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import kills  # noqa: E402
from benchmarks.running import PATIENCE, URL, Running, newest, wait_for  # noqa: E402
from rlvr.recipe import Recipe  # noqa: E402
from rlvr.remote import Client, RemoteVerifier, together  # noqa: E402
from rlvr.types import Reason, Verdict  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "faults.json"


@dataclass(frozen=True)
class Judge(RemoteVerifier):
    """Asks the server that `serve` starts."""

    name: ClassVar[str] = "mention"

    async def averify_batch(self, pairs: Sequence[Any]) -> Sequence[Verdict]:
        async with Client(self) as client:
            return await together(self._ask(client, completion.text) for _, completion in pairs)

    async def _ask(self, client: Client, text: str) -> Verdict:
        reply = await client.post(os.environ[URL], {"text": text})
        return Verdict(float(reply["score"]), Reason.BELIEF)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"score": sha256(asked).digest()[0] / 255}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Bench:
    """The faults, each a method; `self.alone(...)` is the run of the same recipe that nothing is done to."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self._alone = folder, model, dict[str, Path]()

    def alone(self, key: str, **options: Any) -> Path:
        if key not in self._alone:
            running = Running(self.folder / f"alone {key}", self.model, **options)
            if running.process.wait(PATIENCE):
                raise SystemExit(running.told()[-3000:])
            self._alone[key] = running.run
        return self._alone[key]

    def _struck(self, name: str, key: str, strike: Callable[[Running], Any], **options: Any) -> dict[str, Any]:
        alone = self.alone(key, **options)
        running = Running(self.folder / name, self.model, **options)
        running.until_beyond_a_checkpoint()
        strike(running)
        return {**running.end(), **running.again(alone)}

    def process_killed(self) -> dict[str, Any]:
        """SIGKILL of the one process"""
        return self._struck("killed", "one", lambda running: running.process.kill())

    def sigterm(self) -> dict[str, Any]:
        """SIGTERM, as a cluster sends before it takes the machine back"""
        return self._struck("sigterm", "one", lambda running: running.process.terminate())

    def out_of_memory(self) -> dict[str, Any]:
        """no more memory: the address space may not grow (RLIMIT_AS)"""

        def starve(running: Running) -> None:
            pages = int(Path(f"/proc/{running.process.pid}/statm").read_text().split()[0])
            limit = pages * resource.getpagesize()
            resource.prlimit(running.process.pid, resource.RLIMIT_AS, (limit, limit))

        return self._struck("memory", "one", starve)

    def rank_killed(self) -> dict[str, Any]:
        """SIGKILL of one of two ranks"""
        return self._struck("rank", "two", lambda running: os.kill(running.rank(1), signal.SIGKILL), ranks=2)

    def launcher_killed(self) -> dict[str, Any]:
        """SIGKILL of the launcher of two ranks"""

        def strike(running: Running) -> None:
            ranks = running.below()
            running.process.kill()
            wait_for(lambda: not any(Path(f"/proc/{rank}/cmdline").exists() for rank in ranks))

        return self._struck("launcher", "two", strike, ranks=2)

    def rank_hangs(self) -> dict[str, Any]:
        """one of two ranks stops for good (SIGSTOP; grpo.ddp_timeout is 30 s)"""
        grpo = {**kills.recipe(self.model, self.folder)["grpo"], "ddp_timeout": 30}
        return self._struck(
            "stopped", "two, 30 s", lambda running: os.kill(running.rank(1), signal.SIGSTOP), ranks=2, grpo=grpo
        )

    def verifier_hangs(self) -> dict[str, Any]:
        """the verifiers' process stops answering (SIGSTOP; the deadline is 5 s)"""
        return self._verifiers(signal.SIGSTOP)

    def verifier_killed(self) -> dict[str, Any]:
        """SIGKILL of the verifiers' process"""
        return self._verifiers(signal.SIGKILL)

    def _verifiers(self, what: signal.Signals) -> dict[str, Any]:
        running = Running(self.folder / what.name, self.model, deadline=5.0, max_error_rate=0.5)
        running.until_beyond_a_checkpoint()
        workers = [child for child in running.below() if b"serve" in Path(f"/proc/{child}/cmdline").read_bytes()]
        os.kill(workers[0], what)
        ended = running.end()
        told = [line for line in running.told().splitlines() if line.startswith("verifiers:")]
        return {**ended, "said": told[-1] if told else "", "again": 0, "lost": running.unrewarded()}

    def disk_full(self) -> dict[str, Any]:
        """a full disk: a file system of 32 MB, filled up to 150 kB"""
        disk = self.folder / "disk"
        disk.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], capture_output=True
        ).returncode:
            return {"exit code": None, "said": "not done: needs the right to mount a file system"}
        try:
            alone, running = self.alone("one"), Running(disk, self.model)
            running.until_beyond_a_checkpoint()
            (disk / "filler").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 150_000)))
            ended = running.end()
            (disk / "filler").unlink()
            return {**ended, **running.again(alone)}
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)

    def corrupt_checkpoint(self) -> dict[str, Any]:
        """SIGKILL, and one byte of the newest checkpoint's adapter changed"""
        alone, running = self.alone("one"), Running(self.folder / "corrupt", self.model)
        wait_for(lambda: running.process.poll() is not None or running.step() > newest(running.run) >= 6)
        running.process.kill()
        ended = running.end()
        weights = running.run / "checkpoints" / f"checkpoint-{newest(running.run)}" / "adapter_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        went_on = running.again(alone)
        told = [line for line in running.told().splitlines() if "checkpoint" in line]
        # The damaged one is left out, so that its three steps are taken again, too.
        return {
            **ended,
            **went_on,
            "said": re.sub(r"/\S*/", "", told[0]) if told else "",
            "again": went_on["again"] + 3,
        }

    def server_restarted(self) -> dict[str, Any]:
        """the server that a verifier asks is killed, and restarted 3 s later"""
        return self._server(back_after=3.0)

    def server_killed(self) -> dict[str, Any]:
        """the server that a verifier asks is killed, and restarted once the run has ended"""
        return self._server(back_after=None)

    def _server(self, back_after: float | None) -> dict[str, Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        server = serve(port)
        try:
            running = Running(self.folder / f"server {back_after}", self.model, remote=url)
            running.until_beyond_a_checkpoint()
            server.kill()
            server.wait()
            if back_after is None:
                ended = running.end()
                server = serve(port)
                return {**ended, **running.again(self.alone("remote", remote=url))}
            time.sleep(back_after)
            server = serve(port)
            ended = running.end()
            return {**ended, "again": 0, "lost": running.unrewarded()}
        finally:
            server.kill()


def serve(port: int) -> subprocess.Popen[bytes]:
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port)], env={**os.environ, URL: ""})
    wait_for(lambda: _answers(port))
    return server


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


FAULTS: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    name: method for name, method in vars(Bench).items() if not name.startswith("_") and name != "alone"
}


def child() -> None:
    """train.py with the remote verifier in the place of `mention`."""
    import train
    from benchmarks import faults

    plain = Recipe.open_verifiers

    def remote(self: Recipe) -> Any:
        return {
            name: (faults.Judge(), *rest) if name == "mention" else (v, *rest)
            for name, (v, *rest) in plain(self).items()
        }

    Recipe.open_verifiers = remote  # type: ignore[method-assign]
    try:
        train.main()
    except Exception as error:
        sys.exit(f"error: {error}")


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """As Markdown."""
    lines = ["| fault | what happened | steps taken again | lost |", "|---|---|---|---|"]
    for found in results.values():
        happened = f"exit {found['exit code']} after {found.get('seconds to its end')} s: {found['said']}"
        lines.append(f"| {found['fault']} | {happened} | {found.get('again', '')} | {found.get('lost', '')} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=FAULTS, default=list(FAULTS), metavar="FAULT")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        http.server.ThreadingHTTPServer(("127.0.0.1", options.serve), Answers).serve_forever()
    from rlvr.evaluation.provenance import machine, versions
    from tests import tiny

    results: dict[str, dict[str, Any]] = {}
    document = {"faults": results, "machine": machine(), "versions": versions()}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), tiny.make(Path(folder) / "model", tiny.planted()))
        for name in options.only:
            results[name] = {"fault": FAULTS[name].__doc__, **FAULTS[name](bench)}
            print(json.dumps(results[name]), flush=True)
            written = datetime.now(UTC).isoformat(timespec="seconds")
            options.out.write_text(json.dumps({**document, "written": written}, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    child() if os.environ.get(URL) else main()
