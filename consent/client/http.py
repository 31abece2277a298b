"""`Client`: asks the service, and records, over the network.

Guarantees: whatever goes wrong with a check is a no with a reason (or, by choice, an error). A
write that failed raises, and says under which Idempotency-Key it may be repeated; one act has one
key, whatever the number of tries. Shared by threads.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal, NoReturn, TypeAlias

from consent.client.choices import ANY, Choice, Recorded, read_recorded, withdrawn
from consent.client.decisions import Decision, denied, read_decision
from consent.client.errors import ClientError, UnreadableAnswerError
from consent.client.subjects import Subject
from consent.client.transport import Patience, Timing, Transport

OnFailure: TypeAlias = Literal["deny", "raise"]

CHUNK: Final = 10_000
"""People in one question of `check_many`."""
LIST_PATIENCE: Final = Patience(read=60.0, total=180.0)
WRITE_PATIENCE: Final = Patience(read=10.0, total=30.0, tries=6)
_NDJSON: Final = "application/x-ndjson"
_API: Final = "/v1/consent"


class Client:
    """Checks and records consent with one API key."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        on_failure: OnFailure = "deny",
        patience: Patience | None = None,
        timing: Timing | None = None,
        ca_file: str | None = None,
        allow_http: bool = False,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: where the service is, such as `https://consent.example.com`.
            key: an API key with the scopes `consent.check`, and `consent.write` to record.
            on_failure: what a check that could not be answered is: a no with a reason (`deny`),
                or a `ClientError` (`raise`).
            patience: how long a check waits and how often it tries. The default gives up after
                ten seconds; lists and writes have more time.
            timing: clock, sleep and chance, for tests.
            ca_file: certificates to trust instead of the machine's own.
            allow_http: send the key in clear to another machine.

        Raises:
            ValueError: the address or the key has not its form.
        """
        self.transport: Final = Transport(
            url, key, patience=patience, timing=timing, ca_file=ca_file, allow_http=allow_http
        )
        self._raises = on_failure == "raise"

    def __repr__(self) -> str:
        return f"<Client of {self.transport.url}, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds an API key, and must not be pickled")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self.transport.close()

    # --- asking --------------------------------------------------------------------------------

    def check(
        self, subject: Subject, purpose: str, channel: str, as_of: datetime | None = None
    ) -> Decision:
        """May this channel be used for this purpose towards this person, now or at an instant?

        Args:
            subject: whom it is about.
            purpose: the key of a purpose of the service's policy.
            channel: such as `email`.
            as_of: a past instant, aware; now, if None.

        Returns:
            The decision. A no with one of `LocalReason` where there was no answer.

        Raises:
            ClientError: there was no answer, and the client was made with `on_failure="raise"`.
            ValueError: `as_of` has no time zone.
        """
        asked: dict[str, Any] = {
            "subject": subject.wire(),
            "purpose": purpose,
            "channel": channel,
        }
        if as_of is not None:
            if as_of.utcoffset() is None:
                raise ValueError("as_of needs a time zone")
            asked["as_of"] = as_of.isoformat()
        try:
            return read_decision(self.transport.call("POST", f"{_API}/check", body=asked).json())
        except ClientError as error:
            if self._raises:
                raise
            return denied(error.local, str(error))

    def check_many(
        self, subjects: Iterable[Subject], purpose: str, channel: str
    ) -> Iterator[Decision]:
        """The same question about any number of people: a decision each, in their order.

        Asks about 10,000 at a time, as the decisions are read. Where a part cannot be answered,
        its people are denied and the next part is asked.

        Raises:
            ClientError: a part was not answered, and the client was made with
                `on_failure="raise"`.
        """
        waiting = iter(subjects)
        while part := list(islice(waiting, CHUNK)):
            try:
                yield from self._part(part, purpose, channel)
            except ClientError as error:
                if self._raises:
                    raise
                yield from [denied(error.local, str(error))] * len(part)

    def _part(self, part: list[Subject], purpose: str, channel: str) -> list[Decision]:
        body = b"".join(json.dumps(one.wire()).encode() + b"\n" for one in part)
        answer = self.transport.call(
            "POST",
            f"{_API}/check/batch",
            query={"purpose": purpose, "channel": channel},
            body=body,
            content_type=_NDJSON,
            patience=LIST_PATIENCE,
        )
        lines = answer.body.splitlines()
        # Of a shorter or longer answer nobody knows which line is whose.
        if len(lines) != len(part):
            raise UnreadableAnswerError("the answer has not one decision a person")
        try:
            return [read_decision(json.loads(line)) for line in lines]
        except ValueError as error:
            raise UnreadableAnswerError("the answer is not one decision a line") from error

    # --- recording -----------------------------------------------------------------------------

    def record(
        self, subject: Subject, *choices: Choice, idempotency_key: str | None = None
    ) -> Recorded:
        """Record what a person chose. All of it is durable when this returns, or it raises.

        Args:
            subject: who chose.
            choices: what, one to 200.
            idempotency_key: yours for this act, such as the id of a form that was sent; made
                anew if None. The same key and the same choices are recorded once, for 24 hours.

        Raises:
            RefusedError: a choice breaks a rule; nothing was recorded.
            ClientError: there was no answer. Whether it was recorded is not known: repeat it with
                `idempotency_key=error.idempotency_key`.
            ValueError: `occurred_at` of a choice has no time zone.
        """
        key = idempotency_key or str(uuid.uuid4())
        body = {"subject": subject.wire(), "choices": [one.wire() for one in choices]}
        try:
            answer = self.transport.call(
                "POST",
                f"{_API}/choices",
                body=body,
                headers={"Idempotency-Key": key},
                patience=WRITE_PATIENCE,
            )
            replayed = answer.headers.get("Idempotency-Replayed") == "true"
            return read_recorded(answer.json(), replayed=replayed)
        except ClientError as error:
            error.idempotency_key = key
            raise

    def withdraw(
        self,
        subject: Subject,
        purpose: str = ANY,
        channel: str = ANY,
        *,
        method: str | None = None,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Take consent back. In effect everywhere when this returns; see `record`."""
        choice = withdrawn(purpose, channel, method=method)
        return self.record(subject, choice, idempotency_key=idempotency_key)
