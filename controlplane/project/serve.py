"""Run the web process: `python -m controlplane.project.serve --port 8000`.

uvicorn alone waits for open connections before it tells the application to stop, so a parked
long-poll would hold a restart for its whole wait. This server drains first: on the first
SIGTERM or SIGINT parked polls are answered at once and `/readyz` says not ready.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
from types import FrameType

import uvicorn

from controlplane.project.asgi import application


class DrainingServer(uvicorn.Server):
    """A uvicorn server that drains the config plane the moment it is asked to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, then stop as uvicorn does; a second SIGINT stops at once."""
        application.config_app.drain()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Renew the Date header on every tick, not on every tenth.

        Clients correct their clocks by it, and ten ticks of a busy process last for seconds.
        """
        return await super().on_tick(counter - counter % 10)


def main() -> None:
    """Parse the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(description="Tidegate web process: pages, API, config API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--stop-within-s", type=int, default=10, help="bound on a graceful stop")
    options = parser.parse_args()
    config = uvicorn.Config(
        application,
        host=options.host,
        port=options.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        server_header=False,
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=options.stop_within_s,
        log_config=None,
        proxy_headers=False,
    )
    server = DrainingServer(config)
    # What is loaded by now lives as long as the process. Unfrozen, each full collection would walk
    # all of Django while every poll waits.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve())
    if server.force_exit:
        raise SystemExit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
