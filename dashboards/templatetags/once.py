"""The key that makes a form safe to send twice."""

from __future__ import annotations

import secrets

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

FIELD = "once"


@register.simple_tag
def once() -> SafeString:
    """`{% once %}` inside a form that writes: a hidden key, another one each time it is drawn."""
    return format_html(
        '<input type="hidden" name="{}" value="{}">', FIELD, secrets.token_urlsafe(16)
    )
