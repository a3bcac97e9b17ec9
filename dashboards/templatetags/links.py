"""URLs that keep what makes a page shareable: the environment, when it is not the default."""

from __future__ import annotations

from typing import Any, Protocol, cast
from urllib.parse import urlencode

from django import template
from django.template import Context
from django.urls import reverse

register = template.Library()


class EnvironmentScope(Protocol):
    """What a link needs to know of the page it is on."""

    @property
    def environment(self) -> str:
        """Slug of the environment shown."""

    @property
    def is_default(self) -> bool:
        """Whether URLs may leave the environment out."""


def link_to(scope: EnvironmentScope, name: str, *args: Any, **query: Any) -> str:
    """Return the URL of `name`, with the environment and the non-empty parts of `query`."""
    pairs = [] if scope.is_default else [("environment", scope.environment)]
    pairs += [(key, str(value)) for key, value in query.items() if value not in (None, "")]
    path = reverse(name, args=args)
    return f"{path}?{urlencode(pairs)}" if pairs else path


@register.simple_tag(takes_context=True)
def link(context: Context, name: str, *args: Any, **query: Any) -> str:
    """`{% link 'service' row.slug range='1h' %}`: `link_to` with the page's `scope`."""
    return link_to(cast(EnvironmentScope, context["scope"]), name, *args, **query)
