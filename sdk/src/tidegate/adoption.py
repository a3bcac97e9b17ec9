"""What is believed, enforced and kept of what the control plane delivers.

A delivery is verified, read, applied and stored, in this order, and only then does the ETag
advance. Whatever fails on the way leaves everything before it as it was.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from tidegate.clock import ServerClock
from tidegate.disk_copy import DiskCopy
from tidegate.errors import PolicyRejected
from tidegate.identity import Identity
from tidegate.in_force import Enforced, InForce
from tidegate.key_ring import Beliefs, KeyRing
from tidegate.publication import (
    SCHEMA,
    Delivery,
    Misdirected,
    Publication,
    check_address,
    named_etag,
    parse_body,
    parse_publication,
)
from tidegate.series import Count
from tidegate.signatures import SignatureRejected, parse_signature
from tidegate.store import NOTE_EVERY_S, StoredPublication

log = logging.getLogger("tidegate")

# Nodes behind one load balancer are not equally fast. A lower sequence is worth a report only
# when no node had the present one for this long.
LAG_S = 10.0
LOOK_AT_CLOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Handover:
    """What a client leaves to the one that goes on in its place: verified, applied and stored.

    `etag` is None when it was not stored, `beliefs` when nothing is verified.
    """

    instance: str
    enforced: Enforced
    beliefs: Beliefs | None
    etag: str | None
    confirmed_at_s: float | None
    skew_s: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """What could not be adopted. One that may yet heal (a key arrives) is not final."""

    etag: str
    reason: str
    is_final: bool = True


class Unreadable(Exception):
    """An event that cannot be trusted so far as to say which policy it is: poll for it."""


class Adoption:
    """Takes deliveries for one service.

    Args:
        address: environment and service, which a delivery must be for.
        identity: names this process; what is on disk may be another's.
        ring: verifies signatures; None takes what comes unverified.
        failures: counts what did not verify.
    """

    def __init__(
        self,
        address: tuple[str, str],
        in_force: InForce,
        clock: ServerClock,
        *,
        identity: Identity,
        disk: DiskCopy | None,
        ring: KeyRing | None,
        failures: Count,
    ) -> None:
        self._address = address
        self._in_force = in_force
        self._clock = clock
        self._identity = identity
        self._disk = disk
        self._ring = ring
        self._failures = failures
        self._lower_since_s: float | None = None
        self.etag: str | None = None
        self.rejection: Rejection | None = None
        self.confirmed_at_s: float | None = None
        self._noted_at_s: float | None = None
        self.signature_failures = 0
        self.begin()

    def begin(self) -> None:
        """Get ready for the present event loop."""
        self._taking = asyncio.Lock()
        self.clock_learned = asyncio.Event()

    @property
    def sequence_to_resume(self) -> int | None:
        """The sequence after which a stream should go on; None asks for the present policy."""
        return self._in_force.sequence if self.etag is not None else None

    @property
    def unstored(self) -> str | None:
        """The tag in force, when it is for this instance and only the disk is missing; else None.

        `etag` does not advance to it: that one is what the disk holds, and what is asked for
        again as long as it differs.
        """
        now = self._in_force.now
        if now.delivery is None or now.is_borrowed or now.etag == self.etag:
            return None
        return now.etag if self.unknown_key(now.delivery) is None else None

    @property
    def has_adopted_keys(self) -> bool:
        """Whether a key is believed that is not pinned, and may have been withdrawn."""
        return self._ring is not None and bool(self._ring.adopted)

    def heard(self) -> None:
        """Note that an answer taught us the time: schedules look again, a bad clock is told."""
        self.clock_learned.set()
        self._clock.warn_of_skew()

    def confirm(self) -> None:
        """Note that the control plane has nothing newer, unless what it has was rejected."""
        is_good = self.rejection is None and self._lower_since_s is None
        if is_good and self._in_force.publication is not None:
            self.confirmed_at_s = self._clock.now_s()

    async def note_confirmation(self) -> None:
        """Write the last confirmation down about once a minute: a restart goes on from there."""
        confirmed_at_s, noted_at_s = self.confirmed_at_s, self._noted_at_s
        if self._disk is None or confirmed_at_s is None or self.etag != self._in_force.etag:
            return
        if noted_at_s is not None and abs(confirmed_at_s - noted_at_s) < NOTE_EVERY_S:
            return
        self._noted_at_s = confirmed_at_s
        async with self._taking:
            copy, publication = self._copy(confirmed_at_s), self._in_force.publication
            if copy is not None and publication is not None:
                await self._disk.note_confirmation(copy, publication.cohort)

    def unchanged(self, etag: str) -> None:
        """Note an answer that nothing is newer than `etag`."""
        if etag == self._in_force.etag:
            self.rejection = None
        if self.rejection is None:
            self._lower_since_s = None

    def load(self) -> None:
        """Put in force what the disk says for now; nothing when there is no usable copy.

        Where a policy is in force already, only a newer one counts.
        """
        if self._disk is None:
            return
        above = None if self._in_force.now.is_borrowed else self._in_force.sequence
        for path, stored in self._disk.own():
            self._load_copy(path, stored, above)
        if self._in_force.publication is None:
            for path, stored in self._disk.borrowed():
                self._load_copy(path, stored, above, is_borrowed=True)

    def hand_over(self) -> Handover:
        """What another client needs to go on from here."""
        return Handover(
            self._identity.name,
            self._in_force.now,
            None if self._ring is None else self._ring.beliefs,
            self.etag,
            self.confirmed_at_s,
            self._clock.skew_s,
        )

    def take_over(self, left: Handover) -> None:
        """Go on from what a client of the same service left, with its pins and its subscribers.

        Nothing is verified or applied again: the keys that vouched for it may be known to the
        predecessor alone, and whoever obeys it may be locked by a thread that is no more.
        """
        enforced, publication = left.enforced, left.enforced.publication
        # What is for a part of the instances may not be for this one: it asks as if it had none.
        is_foreign = (
            left.instance != self._identity.name
            and publication is not None
            and publication.cohort != ""
        )
        self._clock.remember_skew(left.skew_s)
        if self._ring is not None and left.beliefs is not None:
            self._ring.beliefs = left.beliefs
        self._in_force.take_over(replace(enforced, is_borrowed=enforced.is_borrowed or is_foreign))
        self.etag = None if is_foreign else left.etag
        self.confirmed_at_s = left.confirmed_at_s

    def _load_copy(
        self,
        path: Path,
        stored: StoredPublication,
        above: int | None,
        *,
        is_borrowed: bool = False,
    ) -> None:
        believed = None if self._ring is None else self._ring.beliefs
        try:
            if self._ring is not None:
                self._ring.learn({"keys": stored.keys})
            delivery = Delivery(stored.body, stored.etag, stored.signature)
            publication = self._open(delivery)
            is_news = above is None or publication.sequence > above
            if is_news and not self._in_force.is_above(publication):
                self._clock.remember_skew(stored.skew_s)
                self._adopt(delivery, publication, is_borrowed=is_borrowed)
                self.confirmed_at_s = stored.saved_at_unix_s
                # What was meant for others is no answer to this one: it asks as if it had none.
                self.etag = None if is_borrowed else self._in_force.etag
                return
        except PolicyRejected as problem:
            log.warning("the policy stored in %s is not usable: %s", path, problem)
            if self._disk is not None:
                self._disk.distrust(path)
        if self._ring is not None and believed is not None:
            self._ring.beliefs = believed  # what is in force may need keys that are newer

    def follow_schedule(self) -> float:
        """Apply the step whose time has come; returns the seconds until the next look."""
        now_s = self._clock.now_s()
        publication = self._in_force.publication
        if publication is None:
            return LOOK_AT_CLOCK_S
        was_stored = self.etag == self._in_force.etag
        try:
            self._in_force.advance(now_s)
        except PolicyRejected as problem:
            self._reject(publication.step_at(now_s).etag, problem)
            return LOOK_AT_CLOCK_S
        if was_stored:
            # The disk copy holds the whole publication, so this step is stored already.
            self.etag = self._in_force.etag
        change_s = publication.next_change_s(now_s)
        return LOOK_AT_CLOCK_S if change_s is None else min(change_s - now_s, LOOK_AT_CLOCK_S)

    def unknown_key(self, delivery: Delivery) -> str | None:
        """The key that the signature names and nobody here knows; None when that is no matter."""
        if self._ring is None or not delivery.signature:
            return None
        try:
            kid = parse_signature(delivery.signature).kid
        except SignatureRejected:
            return None
        return None if self._ring.knows(kid) else kid

    async def take(self, delivery: Delivery) -> None:
        """Verify, read, apply, store, and only then advance the ETag.

        What cannot be adopted is in `rejection` afterwards.

        Raises:
            Unreadable: an event that does not even name the policy it brings.
        """
        async with self._taking:
            rejection = self.rejection
            if rejection is not None and rejection.is_final and rejection.etag == delivery.etag:
                return
            try:
                publication = self._open(delivery)
                etag = publication.steps[0].etag
                if rejection is not None and rejection.is_final and rejection.etag == etag:
                    return
                if self._is_from_the_past(publication):
                    return
                self._adopt(delivery, publication)
            except PolicyRejected as problem:
                self._refuse(delivery, problem)
                return
            self.rejection = None
            if await self._save(self._clock.now_s()):
                self.etag = self._in_force.etag

    async def store_again(self) -> None:
        """Store what is in force, when that failed before, and only then advance the ETag."""
        async with self._taking:
            if self.unstored is not None and await self._save(self.confirmed_at_s):
                self.etag = self._in_force.etag

    async def learn_keys(self, document: object) -> None:
        """Believe what the control plane's list of keys allows; keep it with the policy.

        When the key that signed the stored policy was withdrawn, the ETag goes too, so that the
        next answer brings the policy with another signature.
        """
        if self._ring is None:
            return
        try:
            has_changed = self._ring.learn(document)
        except PolicyRejected as problem:
            log.warning("the control plane's list of signing keys is not usable: %s", problem)
            return
        async with self._taking:
            delivery = self._in_force.now.delivery
            if not has_changed or delivery is None:
                return
            if self.unknown_key(delivery) is not None:
                self.etag = None
            elif self.etag is not None:
                await self._save(self.confirmed_at_s)

    def _open(self, delivery: Delivery) -> Publication:
        """Verify and read.

        Raises:
            PolicyRejected: it is not to be believed, not for us, or no policy.
        """
        if self._ring is not None:
            self._ring.verify(delivery.body, delivery.signature)
        document = parse_body(delivery.body)
        if document.get("schema") == SCHEMA:
            check_address(document, delivery, self._address, is_verified=self._ring is not None)
        return parse_publication(document, delivery.etag or str(document.get("etag", "")))

    def _adopt(
        self, delivery: Delivery, publication: Publication, *, is_borrowed: bool = False
    ) -> None:
        kept = replace(delivery, etag=publication.steps[0].etag)
        self._in_force.adopt(publication, kept, self._clock.now_s(), is_borrowed=is_borrowed)
        self._lower_since_s = None
        self.clock_learned.set()

    def _is_from_the_past(self, publication: Publication) -> bool:
        """Whether a node answered that has not yet what another had, and not for long."""
        if not self._in_force.is_above(publication):
            return False
        now_s = self._clock.elapsed_s()
        if self._lower_since_s is None:
            self._lower_since_s = now_s
        return now_s - self._lower_since_s < LAG_S

    async def _save(self, confirmed_at_s: float | None) -> bool:
        publication = self._in_force.publication
        at_s = self._clock.now_s() if confirmed_at_s is None else confirmed_at_s
        copy = self._copy(at_s)
        if self._disk is None or copy is None or publication is None:
            return True
        self._noted_at_s = at_s
        return await self._disk.save(copy, publication.cohort)

    def _copy(self, confirmed_at_s: float) -> StoredPublication | None:
        kept = self._in_force.now.delivery
        if kept is None:
            return None
        return StoredPublication(
            kept.etag or "",
            kept.body,
            self._clock.skew_s,
            confirmed_at_s,
            kept.signature,
            () if self._ring is None else self._ring.entries,
            self._identity.name,
        )

    def _refuse(self, delivery: Delivery, problem: PolicyRejected) -> None:
        if isinstance(problem, SignatureRejected):
            self.signature_failures += 1
            self._failures.add()
        # Only a tag inside a verified body may be refused for good: whoever can put a tag beside
        # another body could otherwise keep the policy that really has it away.
        is_final = self._ring is None or not isinstance(problem, SignatureRejected | Misdirected)
        etag = delivery.etag
        if etag is None and is_final:
            etag = named_etag(delivery.body)
        if etag is None:
            raise Unreadable(str(problem))
        self._reject(etag, problem, is_final=is_final)

    def _reject(self, etag: str, problem: PolicyRejected, *, is_final: bool = True) -> None:
        rejection = Rejection(etag, str(problem), is_final)
        if self.rejection != rejection:
            log.error("policy %s rejected, the old one stays: %s", etag, problem)
        self.rejection = rejection
