"""Run a delivery node: `python -m controlplane.delivery.serve --port 8010`.

Any number of them stand behind a load balancer; they share the database and the pub/sub only.
"""

from __future__ import annotations

from controlplane.delivery.asgi import application
from controlplane.delivery.server import main

if __name__ == "__main__":
    main(application, description="Tidegate delivery node: config API and adapters.")
