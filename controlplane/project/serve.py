"""Run the web process, both planes in one: `python -m controlplane.project.serve --port 8000`."""

from __future__ import annotations

from controlplane.delivery.server import main
from controlplane.project.asgi import application

if __name__ == "__main__":
    main(application, description="Tidegate web process: pages, API, config API.")
