"""Which requests are dropped first: shed levels 0 to 3 against four criticalities."""

from tidegate.policy import Criticality

SHED_FROM_LEVEL = {
    Criticality.SHEDDABLE: 1,
    Criticality.SHEDDABLE_PLUS: 2,
    Criticality.CRITICAL: 3,
    Criticality.CRITICAL_PLUS: 4,  # no level sheds it
}

_BY_HEADER = {member.value.encode(): member for member in Criticality}


def is_shed(level: int, criticality: Criticality) -> bool:
    """Say whether `level` drops requests of this criticality."""
    return level >= SHED_FROM_LEVEL[criticality]


def parse_criticality(header: bytes) -> Criticality | None:
    """Return the criticality a header spells, in any case; None when it spells none."""
    return _BY_HEADER.get(header) or _BY_HEADER.get(header.strip().lower())
