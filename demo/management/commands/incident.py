"""Switch an incident of the demo on or off, or list them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from demo.faults import INCIDENTS, UnknownIncident, find_incident, read_active, write_active


class Command(BaseCommand):
    help = "Make the demo fleet fail on purpose: incident start|stop <name>, incident list."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for action, about in (
            ("start", "switch an incident on"),
            ("stop", "switch an incident off, or all of them"),
        ):
            one = actions.add_parser(action, help=about)
            nargs = None if action == "start" else "?"
            one.add_argument("name", nargs=nargs, help="see `incident list`")
        actions.add_parser("list", help="show every incident and which are on")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.TIDEGATE_ALLOW_DEMO:
            raise CommandError("incidents exist only in the demo; these settings are not for one")
        if not (settings.TIDEGATE.state_dir / "fleet.json").exists():
            raise CommandError("the demo fleet has not run here; start it with: make up")
        actions = {"start": self._start, "stop": self._stop, "list": self._list}
        actions[options["action"]](options.get("name"))

    def _start(self, name: str | None) -> None:
        incident = _found(name or "")
        state_dir = settings.TIDEGATE.state_dir
        write_active(state_dir, read_active(state_dir) | {incident.name})
        self.stdout.write(f"{incident.name} is on: {incident.summary}.")
        self.stdout.write(f"What helps: {incident.what_helps}.")

    def _stop(self, name: str | None) -> None:
        state_dir = settings.TIDEGATE.state_dir
        stopped = {_found(name).name} if name else read_active(state_dir)
        write_active(state_dir, read_active(state_dir) - stopped)
        self.stdout.write(f"Off now: {', '.join(sorted(stopped)) or 'none was on'}.")

    def _list(self, name: str | None) -> None:
        active = read_active(settings.TIDEGATE.state_dir)
        for incident in INCIDENTS:
            mark = "on " if incident.name in active else "off"
            self.stdout.write(f"{mark}  {incident.name:<16} {incident.summary}")


def _found(name: str) -> Any:
    try:
        return find_incident(name)
    except UnknownIncident as problem:
        raise CommandError(str(problem)) from None
