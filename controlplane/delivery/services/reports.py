"""Batched writes of what instances said in their polls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from django.db import transaction

from controlplane.delivery.domain.etags import claimed_position
from controlplane.delivery.hotpath.reports import InstanceNote, Mark
from controlplane.delivery.models import Acknowledgement, InstanceReport
from controlplane.delivery.services.instruments import count_rejection
from controlplane.policies.selectors.publications import list_publications_by_sequence
from controlplane.registry.services.instances import (
    InstanceKey,
    InstanceSighting,
    record_instances,
    touch_instances,
)

Position = tuple[int, int]

MAX_KNOWN = 50_000  # row numbers of instances, about 20 MB: as many as a buffer follows
TOUCHED_AT_ONCE = 500

_REPORT_FIELDS = [
    "etag", "sequence", "step", "state", "rejected_etag", "rejected_at", "reason", "fetched_at",
    "applied_at", "sdk",
]  # fmt: skip


def write_reports(
    notes: Sequence[InstanceNote], known: dict[InstanceKey, int] | None = None
) -> int:
    """Write one batch; return how many answers to publications it holds.

    A handful of statements for hundreds of instances. Writing a batch twice changes nothing:
    instances and reports are upserted, and the first answer of an instance to a publication stays.
    Most notes only say that an instance is still there: `known` remembers, from batch to batch,
    the row numbers with which that is written at a tenth of the price.
    """
    if known:
        notes = _write_seen_again(notes, known)
    if not notes:
        return 0
    positions = _known_positions(notes)
    with transaction.atomic():
        ids = record_instances(
            [
                InstanceSighting(
                    environment=note.environment,
                    service_slug=note.service,
                    instance_id=note.instance_id,
                    seen_at=_instant(note.seen_at_unix),
                )
                for note in notes
            ]
        )
        rejecting = _write_states([note for note in notes if note.has_report], ids, positions)
        answers = _write_acknowledgements(notes, positions)
    if known is not None:
        if len(known) + len(ids) > MAX_KNOWN:
            known.clear()  # they are learnt again as they come
        known.update(ids)
    for note in rejecting:
        count_rejection(note.environment, note.service)
    return answers


def _write_seen_again(
    notes: Sequence[InstanceNote], known: dict[InstanceKey, int]
) -> list[InstanceNote]:
    """Write notes that say nothing but that an instance is there; return the others.

    Those of one second share its last moment: notes may have waited for the database for long.
    """
    others: list[InstanceNote] = []
    by_second: dict[int, dict[int, InstanceNote]] = {}
    for note in notes:
        pk = None if note.has_report else known.get(_key(note))
        if pk is None:
            others.append(note)
        else:
            by_second.setdefault(int(note.seen_at_unix), {})[pk] = note
    for seen in by_second.values():
        pks = sorted(seen)
        for start in range(0, len(pks), TOUCHED_AT_ONCE):
            chunk = pks[start : start + TOUCHED_AT_ONCE]
            last_unix = max(seen[pk].seen_at_unix for pk in chunk)
            gone = set(chunk) - touch_instances(chunk, seen_at=_instant(last_unix))
            for pk in gone:  # tidied away: it has to be written as a new one
                del known[_key(seen[pk])]
                others.append(seen[pk])
    return others


def _key(note: InstanceNote) -> InstanceKey:
    return (note.environment, note.service, note.instance_id)


def _write_states(
    notes: Sequence[InstanceNote],
    ids: Mapping[tuple[str, str, str], int],
    positions: Mapping[str, Position],
) -> list[InstanceNote]:
    """Write the newest state of each instance; return those that began to reject something."""
    by_pk = {ids[note.environment, note.service, note.instance_id]: note for note in notes}
    reports = {
        report.instance_id: report
        for report in InstanceReport.objects.filter(instance_id__in=by_pk)
    }
    rejecting: list[InstanceNote] = []
    for pk, note in by_pk.items():
        report = reports.setdefault(pk, InstanceReport(instance_id=pk, state="fetched"))
        before = (report.rejected_etag, report.rejected_at)
        _update_state(report, note, positions)
        if report.rejected_at is not None and before != (report.rejected_etag, report.rejected_at):
            rejecting.append(note)
    InstanceReport.objects.bulk_create(
        reports.values(),
        update_conflicts=True,
        unique_fields=["instance"],
        update_fields=_REPORT_FIELDS,
        batch_size=500,
    )
    return rejecting


def _update_state(
    report: InstanceReport, note: InstanceNote, positions: Mapping[str, Position]
) -> None:
    report.sdk = note.sdk
    if note.fetched_at_unix is not None:
        report.fetched_at = _instant(note.fetched_at_unix)
    rejected_before = {report.rejected_etag: report.rejected_at}
    for mark in note.marks:
        if mark.outcome == "applied":
            if report.etag != mark.etag:
                report.applied_at = _instant(mark.at_unix)
            position = _position(mark, positions)
            report.etag = mark.etag
            report.sequence, report.step = position or (None, 0)
            report.state, report.rejected_etag, report.reason = "applied", "", ""
            report.rejected_at = None
        elif mark.outcome == "rejected":
            # Of one poll the rejection comes second: it enforces the old and refuses the new.
            report.state, report.rejected_etag, report.reason = "rejected", mark.etag, mark.reason
            # A poll that repeats it, such as to another node, does not begin it anew.
            report.rejected_at = rejected_before.get(mark.etag) or _instant(mark.at_unix)


def _write_acknowledgements(
    notes: Iterable[InstanceNote], positions: Mapping[str, Position]
) -> int:
    rows = []
    answers = 0
    for note in notes:
        for mark in note.marks:
            position = _position(mark, positions)
            if position is not None:
                answers += mark.outcome != "fetched"
                rows.append(
                    Acknowledgement(
                        environment=note.environment,
                        service_slug=note.service,
                        sequence=position[0],
                        instance_id=note.instance_id,
                        outcome=mark.outcome,
                        reason=mark.reason,
                        at=_instant(mark.at_unix),
                    )
                )
    Acknowledgement.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)
    return answers


def _known_positions(notes: Iterable[InstanceNote]) -> dict[str, Position]:
    """Find the publications of tags that this process never served, such as after a restart.

    What a tag claims is believed only when a publication has exactly that tag; the rest stays
    text without a sequence.
    """
    claims: dict[str, Position] = {}
    for note in notes:
        for mark in note.marks:
            if mark.sequence is None and (claim := claimed_position(mark.etag)) is not None:
                claims[mark.etag] = claim
    if not claims:
        return {}
    sequences = sorted({sequence for sequence, _ in claims.values()})
    tags = {
        etag
        for publication in list_publications_by_sequence(sequences)
        for etag in (publication.etag, *(later["etag"] for later in publication.scheduled))
    }
    return {etag: claim for etag, claim in claims.items() if etag in tags}


def _position(mark: Mark, positions: Mapping[str, Position]) -> Position | None:
    if mark.sequence is not None:
        return (mark.sequence, mark.step)
    return positions.get(mark.etag)


def _instant(at_unix: float) -> datetime:
    return datetime.fromtimestamp(at_unix, UTC)
