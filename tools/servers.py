"""Starts real servers for tests and measurements, and waits until they answer. Loopback only."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    port: int
    seconds_to_first_answer: float
    worker_megabytes: float
    """Resident memory of the largest process of the server."""
    pid: int
    log: Path
    """What the server wrote to standard output and standard error."""

    def kill(self) -> None:
        """End every process of the server at once, as a power cut would."""
        os.killpg(self.pid, signal.SIGKILL)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def service(
    url: str, folder: Path, *, workers: int, threads: int, role: str = "web", **settings: str
) -> Iterator[Running]:
    """The service, with further settings by their names without the prefix."""
    port = free_port()
    command = [sys.executable, "-m", "admin_ui.cli", "serve", "--role", role, "--port", str(port)]
    environment = {
        "TUTELA_DATABASE_URL": url,
        "TUTELA_DATA_DIR": str(folder),
        "TUTELA_WORKERS": str(workers),
        "TUTELA_THREADS": str(threads),
        **{f"TUTELA_{name.upper()}": value for name, value in settings.items()},
    }
    with running(command, environment, port, "/log/checkpoint") as server:
        yield server


@contextmanager
def running(
    command: list[str], settings: Mapping[str, str], port: int, path: str
) -> Iterator[Running]:
    """Any server: started by `command`, ready once `path` answers 200."""
    descriptor, name = tempfile.mkstemp(prefix="tutela-server-", suffix=".log")
    started = time.perf_counter()
    with os.fdopen(descriptor, "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, port, path, until=started + 30)
        seconds = time.perf_counter() - started
        yield Running(port, seconds, _largest(process.pid), process.pid, Path(name))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        Path(name).unlink()


def _wait(process: subprocess.Popen[bytes], port: int, path: str, until: float) -> None:
    while time.perf_counter() < until:
        if process.poll() is not None:
            raise RuntimeError("the server ended before it answered")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.01)
        finally:
            connection.close()
    raise RuntimeError("the server did not answer in time")


def _largest(pid: int) -> float:
    """Resident megabytes of the largest process of the session that `pid` leads."""
    sizes = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid:
                pages = int((folder / "statm").read_text().split()[1])
                sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return max(sizes, default=0.0)
