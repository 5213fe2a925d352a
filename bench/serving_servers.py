"""The servers that are measured, each on one core: ours from a prepared disk, and its peers."""

import asyncio
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from bench.serving_load import Question
from bench.serving_peers.forest import WIDTH, forest, table
from bench.serving_venvs import python_of
from local.paths import CHECKOUT
from local.process import descendants
from services.serving.app import Serving
from services.serving.settings import Settings
from services.trainer.compiling import compile_model
from shared import models
from shared.artifacts import ArtifactStore
from shared.events import DeploymentDesired, Heard
from shared.manifest import Column, File
from tests.serving.building import (
    FLOW,
    KEY,
    Version,
    a_desired,
    a_replica,
    a_version,
    environment_of,
    settings_for,
)

NAMES: Final = tuple(f"sensor_{number}" for number in range(WIDTH))
BODIES: Final = 64
"""Different requests per question: no server may live on having seen the last one."""
START_SECONDS: Final = 90.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
Plain = Callable[[Any], Any]


@dataclass(slots=True, kw_only=True)
class Server:
    """One of them, as a process of its own.

    Attributes:
        name: in the figures.
        path: where rows are asked about.
        plain: rows as what it takes as JSON.
        health: a path that answers 200 once it is ready.
    """

    name: str
    argv: Sequence[str]
    folder: Path
    port: int
    path: str
    plain: Plain
    health: str = "/"
    key: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def question(self, rows: int) -> Question:
        """Requests about so many rows each."""
        chance = np.random.default_rng(rows)
        bodies = [orjson.dumps(self.plain(_rows(chance, rows))) for _ in range(BODIES)]
        return Question.of(self.port, self.path, bodies, key=self.key)

    def start(self, core: int) -> None:
        """Start it on one core."""
        told = {k: v for k, v in os.environ.items() if "TIDEWHEEL" not in k}
        told |= {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", **self.environment}
        with (self.folder / f"{self.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.argv,
                cwd=self.folder,
                env=told,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - one thread here
            )

    async def ready(self) -> bool:
        """Whether it answers before patience ends."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + START_SECONDS
        while loop.time() < ends and self.process is not None and self.process.poll() is None:
            if await asyncio.to_thread(self._is_well):
                return True
            await asyncio.sleep(0.2)
        return False

    def _is_well(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{self.health}", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def processor_seconds(self) -> float:
        """Used so far, by it and its children."""
        if self.process is None:
            return 0.0
        pids = [self.process.pid, *descendants(self.process.pid)]
        return sum(map(_ticks, pids)) / _TICKS

    def stop(self) -> None:
        """End it and whatever it started."""
        if self.process is None:
            return
        children = descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in children:
            _end(pid)


def _end(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _rows(chance: np.random.Generator, rows: int) -> list[list[float]]:
    return [[round(v, 4) for v in row] for row in chance.normal(size=(rows, WIDTH)).tolist()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- ours -----------------------------------------------------------------------------------


Plan = Callable[[ArtifactStore], Heard[DeploymentDesired]]
"""What is desired of a server of ours."""


def alone(store: ArtifactStore) -> Heard[DeploymentDesired]:
    """One forest answers."""
    return a_desired(1, a_compiled_forest(store))


def in_rollout(store: ArtifactStore) -> Heard[DeploymentDesired]:
    """A second forest answers a fifth of the machines, each machine by the same one."""
    champion, challenger = a_compiled_forest(store), a_compiled_forest(store, 2)
    return a_desired(1, champion, challenger=challenger, weight=0.2)


def with_shadow(store: ArtifactStore) -> Heard[DeploymentDesired]:
    """A second forest is asked about a fifth of the rows once these are answered."""
    return a_desired(1, a_compiled_forest(store), shadow=a_compiled_forest(store, 2), share=0.2)


async def ours(folder: Path, plan: Plan = alone, name: str = "ours", **knobs: Any) -> Server:
    """Our serving service over a disk that holds forests, as the trainer would have made them."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    ports = {"port": _free_port(), "admin_port": _free_port()}
    settings = settings_for(folder, **ports, **knobs)
    async with a_replica(settings, _just_deployments) as replica:
        await replica.want(plan(ArtifactStore(settings.artifacts)))
    return Server(
        name=name,
        argv=[sys.executable, "-m", "services.serving.app"],
        folder=folder,
        port=settings.port,
        path=f"/v1/models/{FLOW}/predict",
        plain=_sticky if plan is in_rollout else _named,
        health="/ready",
        key=KEY,
        environment=environment_of(_absolute(settings)),
    )


async def our_ways(folder: Path) -> list[Server]:
    """Ours in a rollout, with a shadow, and asked in the Open Inference Protocol."""
    rollout = await ours(folder / "canary", in_rollout, "canary")
    shadow = await ours(folder / "shadow", with_shadow, "shadow")
    tensors = await ours(folder / "v2", alone, "v2")
    tensors.path, tensors.plain = f"/v2/models/{FLOW}/infer", _tensor
    return [rollout, shadow, tensors]


def _named(rows: list[list[float]]) -> dict[str, Any]:
    return {"rows": [dict(zip(NAMES, row, strict=True)) for row in rows]}


def _sticky(rows: list[list[float]]) -> dict[str, Any]:
    """Rows that tell which machine they are of, one of a hundred."""
    told = _named(rows)
    for row in told["rows"]:
        row["pump"] = f"pump-{int(abs(row[NAMES[0]]) * 1e4) % 100}"
    return told


def _absolute(settings: Settings) -> Settings:
    return settings.model_copy(update={"data": settings.data.resolve()})


def _just_deployments(serving: Serving) -> list[Any]:
    return [serving.deployments.run]


def a_compiled_forest(store: ArtifactStore, number: int = 1) -> Version:
    """The forest with its compiled form, proved as the trainer proves it; another one by number."""
    columns = tuple(Column(name=name, kind="number", minimum=-5.0, maximum=5.0) for name in NAMES)
    fitted = forest(6 + number)
    made = compile_model(fitted, columns, "regression", (), table()[:200], 7)
    if made.data is None:
        raise SystemExit(f"the forest was not compiled: {made.record.reason}")
    data = models.dump(fitted)
    file = File(digest=store.put(made.data), size_bytes=len(made.data))
    model = File(digest=store.put(data), size_bytes=len(data))
    return a_version(
        store,
        number,
        data=data,
        columns=columns,
        files={"model.skops": model, "model.onnx": file},
        compiled=made.record,
    )


# --- peers ----------------------------------------------------------------------------------


def peers(folder: Path) -> tuple[list[Server], list[str]]:
    """Those that are installed, and the names of those that are not."""
    found: list[Server] = []
    missing: list[str] = []
    for name, (venv, make) in _PEERS.items():
        python = python_of(venv)
        if python is None:
            missing.append(name)
            continue
        own = folder / name
        own.mkdir()
        if venv != "hello":
            _dump_model(python, own)
        found.append(make(name, python, own))
    return found, missing


def _dump_model(python: Path, folder: Path) -> None:
    """The forest as a pickle that this environment's own scikit-learn wrote."""
    subprocess.run(
        [python, "-m", "bench.serving_peers.forest", folder / "model.joblib"],
        cwd=CHECKOUT,
        check=True,
    )


def _uvicorn(name: str, python: Path, folder: Path) -> Server:
    port = _free_port()
    application = f"bench.serving_peers.{name}:app"
    options = ["--port", str(port), "--no-access-log", "--log-level", "warning"]
    return Server(
        name=name,
        argv=[str(python), "-m", "uvicorn", application, *options],
        folder=folder,
        port=port,
        path="/predict",
        plain=lambda rows: {"rows": rows},
        health="/" if name == "hello" else "/openapi.json",
    )


def _bentoml(name: str, python: Path, folder: Path) -> Server:
    port = _free_port()
    application = "bench.serving_peers.bento:Forest"
    return Server(
        name=name,
        argv=[str(python), "-m", "bentoml", "serve", application, "--port", str(port)],
        folder=folder,
        port=port,
        path="/predict",
        plain=lambda rows: {"rows": rows},
        health="/readyz",
        environment={"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(folder)},
    )


def _mlserver(**settings: Any) -> "Callable[[str, Path, Path], Server]":
    batching = {key: settings.pop(key) for key in list(settings) if key.startswith("max_batch")}

    def make(name: str, python: Path, folder: Path) -> Server:
        ports = {"http_port": _free_port(), "grpc_port": _free_port(), "metrics_port": _free_port()}
        told = {"host": "127.0.0.1", **ports, **settings}
        model = {
            "name": "forest",
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib"},
            **batching,
        }
        (folder / "settings.json").write_bytes(orjson.dumps(told))
        (folder / "model-settings.json").write_bytes(orjson.dumps(model))
        command = str(python.parent / "mlserver")
        return Server(
            name=name,
            argv=[command, "start", "."],
            folder=folder,
            port=ports["http_port"],
            path="/v2/models/forest/infer",
            plain=_tensor,
            health="/v2/models/forest/ready",
        )

    return make


def _tensor(rows: list[list[float]]) -> dict[str, Any]:
    flat = [value for row in rows for value in row]
    shape = [len(rows), WIDTH]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP64", "data": flat}]}


_PEERS: Final[dict[str, tuple[str, Callable[[str, Path, Path], Server]]]] = {
    "hello": ("hello", _uvicorn),
    "naive": ("fastapi", _uvicorn),
    "mlserver_shipped": ("mlserver", _mlserver()),
    "mlserver_best": (
        "mlserver",
        _mlserver(parallel_workers=0, debug=False, max_batch_size=64, max_batch_time=0.005),
    ),
    "bentoml_batchable": ("bentoml", _bentoml),
}
