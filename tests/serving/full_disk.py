"""A replica whose disk takes nothing more from its start on; it prints what it answers."""

import asyncio
import json
import resource
import sys
from pathlib import Path

from services.serving.settings import Settings
from tests.serving.building import A_ROW, FLOW, a_replica


async def ask(settings: Settings, questions: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    async with a_replica(settings) as replica:
        told = []
        for _ in range(questions):
            response = await replica.client.post(
                f"/v1/models/{FLOW}/predict", json={"rows": [A_ROW]}
            )
            body = response.json()
            rung = body["predictions"][0]["rung"] if "predictions" in body else body["code"]
            told.append([response.status_code, rung])
        print(json.dumps({"told": told, "gaps": replica.serving.spool.gaps}))  # noqa: T201
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(ask(Settings(**json.loads(Path(sys.argv[1]).read_text())), 5))
