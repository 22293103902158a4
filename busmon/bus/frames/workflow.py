"""One attempt to connect, in place of pika's own: all addresses in order, until one opens a connection.

pika's own attempt would use the resolver's order of addresses, and stop after a failed handshake. On the thread of
the loop.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflow,
    AMQPConnectionWorkflowAborted,
    AMQPConnectionWorkflowFailed,
)
from pika.connection import Connection, Parameters

from busmon.bus.frames.ending import drop

RESOLVE_SECONDS = 5.0
"""How long the names may take together; a name without an answer by then has failed."""

Result: TypeAlias = Connection | BaseException


class BrokerAddress(NamedTuple):
    """One of the broker's addresses.

    Attributes:
        parameters: of the URL that the address is from.
        record: as `getaddrinfo` gives it.
    """

    parameters: Parameters
    record: tuple[Any, ...]

    @property
    def ip(self) -> str:
        """Return the address without the port."""
        return str(self.record[4][0])

    @property
    def key(self) -> tuple[Any, ...]:
        """Return the key that identifies the address."""
        return tuple(self.record[4])


class Failure(NamedTuple):
    """The failure of one address, or of one name without an address (`ip` is empty)."""

    parameters: Parameters
    ip: str
    error: BaseException


class Course(Protocol):
    """The order of the addresses, and the record of their failures."""

    failures: list[Failure]

    def in_order(self, found: Sequence[BrokerAddress]) -> list[BrokerAddress]:
        """Return the addresses in the order of the attempt that begins."""

    def note_opened(self, address: BrokerAddress) -> None:
        """Note the address that the connection is open to."""

    def note_failed(self, failure: Failure, address: BrokerAddress | None = None) -> None:
        """Note that an address gave no connection."""


class Dialling(AMQPConnectionWorkflow):
    """One attempt, which resolves all names and then tries one address after another."""

    def __init__(self, addresses: Course) -> None:
        super().__init__()
        self._addresses = addresses
        self._resolving: dict[int, Any] = {}
        self._found: list[BrokerAddress] = []
        self._unresolved: list[Failure] = []
        self._timer: Any = None
        self._is_aborted = False

    def start(
        self,
        connection_configs: Sequence[Parameters],
        connector_factory: Callable[[], Any],
        native_loop: IOLoop,  # noqa: ARG002 - as pika has it
        on_done: Callable[[Result], None],
    ) -> None:
        """Begin; called by pika."""
        self._connector_factory, self._on_done = connector_factory, on_done
        self._connection_configs = connection_configs
        self._timer = self._nbio.call_later(RESOLVE_SECONDS, self._try_in_order)
        for number, parameters in enumerate(connection_configs):
            self._resolving[number] = self._resolve(number, parameters)

    def _resolve(self, number: int, parameters: Parameters) -> Any:
        """Begin to resolve a name, on a thread of pika's if one can be started; return what can be cancelled."""
        name = parameters.host, parameters.port
        on_done = partial(self._on_resolved, number)
        try:
            return self._nbio.getaddrinfo(*name, on_done, socktype=self._SOCK_TYPE, proto=self._IPPROTO)
        except RuntimeError:  # Python 3.12.1 starts none while the interpreter ends, nor any beyond the system's limit
            return self._nbio.call_later(0, partial(self._resolve_here, name, on_done))

    def _resolve_here(self, name: tuple[str, int], on_done: Callable[[Any], None]) -> None:
        found: list[tuple[Any, ...]] | OSError
        try:
            found = [*socket.getaddrinfo(*name, type=self._SOCK_TYPE, proto=self._IPPROTO)]
        except OSError as error:
            found = error
        on_done(found)

    def abort(self) -> None:
        """Drop the attempt; its end is reported soon, like any other attempt's."""
        if self._is_aborted:
            return
        self._is_aborted = True
        if self._connector is None:
            self._end_resolving()
            self._timer = self._nbio.call_later(0, self._try_next)
        elif self._connector._amqp_conn is not None:  # noqa: SLF001 - pika's `abort` fails an assertion of its own then
            drop(self._connector._amqp_conn)  # noqa: SLF001 - as above
        else:
            self._connector.abort()

    def _on_resolved(self, number: int, result: list[tuple[Any, ...]] | BaseException) -> None:
        del self._resolving[number]
        parameters = self._connection_configs[number]
        if isinstance(result, BaseException):
            self._unresolved.append(Failure(parameters, "", result))
        else:
            self._found.extend(BrokerAddress(parameters, record) for record in result)
        if not self._resolving:
            self._try_in_order()

    def _try_in_order(self) -> None:
        late = [self._connection_configs[number] for number in self._end_resolving()]
        self._left = self._addresses.in_order(self._found)
        for parameters in late:
            error = OSError(f"no answer to the look-up of the name within {RESOLVE_SECONDS:g} s")
            self._unresolved.append(Failure(parameters, "", error))
        for failure in self._unresolved:
            self._addresses.note_failed(failure)
        self._try_next()

    def _end_resolving(self) -> list[int]:
        late, self._resolving = self._resolving, {}
        for task in (*late.values(), self._timer):
            task.cancel()
        return [*late]

    def _try_next(self) -> None:
        if self._is_aborted:
            self._on_done(AMQPConnectionWorkflowAborted())
        elif not self._left:
            self._on_done(AMQPConnectionWorkflowFailed([failure.error for failure in self._addresses.failures]))
        else:
            self._try(self._left.pop(0))

    def _try(self, address: BrokerAddress) -> None:
        self._connector = self._connector_factory()
        try:
            self._connector.start(address.record, address.parameters, partial(self._on_tried, address))
        except OSError as error:  # the system has no such family of addresses
            self._on_tried(address, error)

    def _on_tried(self, address: BrokerAddress, result: Result) -> None:
        self._connector = None
        if isinstance(result, BaseException):
            if not self._is_aborted:
                self._addresses.note_failed(Failure(address.parameters, address.ip, result), address)
            self._try_next()
        else:
            self._addresses.note_opened(address)
            self._on_done(result)
