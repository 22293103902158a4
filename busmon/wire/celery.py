"""Celery's events: a JSON object of one event, or a list of them (`task.multi`), as its event dispatcher publishes.

Only a body that came through Celery's own exchange is Celery's; any other may be any publisher's. Only what a metric
needs is taken from an event: no argument, result, traceback or text of an exception leaves this module. An event that
can't be read is rejected alone, and a body without any good event is not an envelope. Never raises anything but
`EnvelopeError`. Pure.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from busmon.errors import EnvelopeError, RejectedError
from busmon.reasons import BodyReason, SampleReason
from busmon.wire import json_v1
from busmon.wire.arrival import Arrival
from busmon.wire.celery_event import CeleryEvent, TaskEvent, WorkerEvent
from busmon.wire.envelope import Envelope, Part
from busmon.wire.floats import is_number
from busmon.wire.json_v1 import MAX_NAME_CHARACTERS
from busmon.wire.rejections import Rejections, Stated
from busmon.wire.times import is_time

FORMAT = "celery"
AGENT = "celery"
SOURCE = AGENT.ljust(MAX_NAME_CHARACTERS + 1, ".")
"""All of Celery is one source: any client or worker may report of a task. The name is too long for another publisher to
state, and so to own."""

UNKNOWN_EXCEPTION = "UnknownException"

MAX_EVENTS = 3_000
"""Of a body, which a worker folds in one piece: an event is up to 9 values. Celery's lists have some 24."""

_TASK_KINDS = frozenset(
    {"sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried", "cancelled"}
)
_WORKER_KINDS = frozenset({"online", "heartbeat", "offline"})
_NAMING = frozenset({"sent", "received"})
_MEMBERS = frozenset({"type", "hostname"})
_CLASS = re.compile(r"(?:[A-Za-z_]\w{0,99}\.){0,9}([A-Za-z_]\w{0,99})\(")
_POOLS_CLASS = re.compile(r"^billiard(?:\.\w{1,50}){1,4}\.(\w{1,100})(?::|$)", re.MULTILINE)
_WRAPPED = "ExceptionWithTraceback"
"""Celery's pool shows what it raised itself as this: a time limit that is exceeded, a process that is lost."""

_MOST_LATE_SECONDS = 366 * 86_400.0
"""An eta beyond it is taken for none: its task would be remembered for as long."""

_NO_EVENT = RejectedError(
    SampleReason.INVALID_CELERY, "an event is an object with the texts 'type' and 'hostname', and a task's 'uuid'"
)
_OTHER = RejectedError(SampleReason.CELERY_EVENT, "no metric counts this type of event")


def is_of_celery(document: Any) -> bool:
    """Return whether JSON looks like Celery's: an event, or a list that begins with one."""
    first = document[0] if type(document) is list and document else document
    return type(first) is dict and first.keys() >= _MEMBERS and "v" not in first


def decode(arrival: Arrival) -> Envelope:
    """Decode a body that is Celery's by a rule of the settings.

    Raises:
        EnvelopeError: as of `json_v1.parse` and `of_document`.
    """
    return of_document(json_v1.parse(arrival.body, arrival.content_encoding, arrival.max_bytes), arrival)


def of_document(document: Any, arrival: Arrival) -> Envelope:
    """Make an envelope from JSON.

    Raises:
        EnvelopeError: `invalid_celery` or `too_many_samples`.
    """
    if not arrival.is_celerys:
        raise EnvelopeError(BodyReason.INVALID_CELERY, "Celery's events count only from Celery's own exchange")
    stated = document if type(document) is list else [document]
    if len(stated) > MAX_EVENTS:
        raise EnvelopeError(BodyReason.TOO_MANY_SAMPLES, f"more than {MAX_EVENTS} events")
    events: list[CeleryEvent] = []
    rejections = Rejections()
    for each in stated:
        try:
            events.append(_event(each))
        except RejectedError as error:
            rejections.add(error, _show(each))
    if not events and (SampleReason.INVALID_CELERY in rejections.counts or not stated):
        raise EnvelopeError(BodyReason.INVALID_CELERY, f"no event can be counted; {_NO_EVENT.args[1]}")
    identity = blake2b(b"".join(event.identity.to_bytes(8) for event in events), digest_size=16).hexdigest()
    at = max((event.at for event in events), default=0.0) or None
    part = Part(SOURCE, AGENT, {}, (), rejections, events=events)
    return Envelope(SOURCE, AGENT, at, [], [], parts=[part], identity=identity if events else None, format=FORMAT)


def _event(stated: Any) -> CeleryEvent:
    """Read one event.

    Raises:
        RejectedError: `invalid_celery` or `celery_event`.
    """
    if type(stated) is not dict:
        raise _copy(_NO_EVENT)
    type_, node = _word(stated, "type"), _word(stated, "hostname")
    if not type_ or not node:
        raise _copy(_NO_EVENT)
    group, _, kind = type_.partition("-")
    if group == "task" and kind in _TASK_KINDS:
        return _of_task(stated, kind, node)
    if group == "worker" and kind in _WORKER_KINDS:
        active = _number(stated.get("active")) or 0.0
        return WorkerEvent(_identity(stated), kind, node, _time(stated), max(0.0, active))
    raise _copy(_OTHER)


def _of_task(stated: Mapping[str, Any], kind: str, node: str) -> TaskEvent:
    uuid = stated.get("uuid")
    if type(uuid) is not str or not uuid:
        raise _copy(_NO_EVENT)
    at, identity, task = _time(stated), _identity(stated), _digest(uuid)
    if kind in _NAMING:
        queue = _word(stated, "queue") or _word(stated, "routing_key")
        return TaskEvent(identity, kind, node, at, task, _word(stated, "name"), queue, _due(stated.get("eta"), at))
    if kind == "failed":
        return TaskEvent(identity, kind, node, at, task, exception=_exception(stated))
    return TaskEvent(identity, kind, node, at, task, runtime=_number(stated.get("runtime")))


def _exception(stated: Mapping[str, Any]) -> str:
    """Return the class of a failed task's exception; the pool's own one is only in the traceback."""
    name, traceback = class_name(stated.get("exception")), stated.get("traceback")
    if name == _WRAPPED and type(traceback) is str and (found := _POOLS_CLASS.findall(traceback)):
        return str(found[-1])
    return name


def class_name(shown: Any) -> str:
    """Return the class in what Python shows of an exception, `KeyError('x')`, without its module and its text."""
    found = _CLASS.match(shown) if type(shown) is str else None
    return found[1] if found else UNKNOWN_EXCEPTION


def _identity(stated: Mapping[str, Any]) -> int:
    """Return a digest of an event's own members.

    A worker that was restarted counts its clock from the beginning, so the time and the process tell its events apart.
    """
    members = [str(stated.get(key)) for key in ("hostname", "pid", "clock", "uuid", "type", "timestamp")]
    return _digest("\0".join(members))


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="backslashreplace"), digest_size=8).digest())


def _word(stated: Mapping[str, Any], key: str) -> str:
    """Return a name in an event; empty where there is none, or one that is too long for one."""
    value = stated.get(key)
    return value if type(value) is str and len(value) <= MAX_NAME_CHARACTERS else ""


def _number(value: Any) -> float | None:
    return value if is_number(value) else None


def _time(stated: Mapping[str, Any]) -> float:
    at = stated.get("timestamp")
    return float(at) if is_time(at) else 0.0  # type: ignore[arg-type]  # is_time has looked


def _due(eta: Any, at: float) -> float:
    """Return the time before which a task doesn't begin, by ISO 8601 and in UTC where it states no offset."""
    if type(eta) is not str:
        return 0.0
    try:
        due = datetime.fromisoformat(eta)
        seconds = (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return seconds if at < seconds <= at + _MOST_LATE_SECONDS else 0.0


def _copy(error: RejectedError) -> RejectedError:
    return RejectedError(*error.args)


def _show(stated: Any) -> Stated:
    """Name a rejected event by its type, since everything else in it may be private."""
    return Stated(_word(stated, "type") if type(stated) is dict else "")
