"""The errors that busmon raises on purpose: one tree under `BusmonError`.

Libraries' errors are translated at the edge where they arise, with `from`. A `UserError` carries one line that names
what is wrong, where it was said and what is accepted; the command line prints that line and exits with status 2.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from busmon.reasons import BodyReason, SampleReason

MAX_DETAIL_CHARACTERS = 300
"""Of the detail of a refusal."""


class BusmonError(Exception):
    """The root; its message is one line for a person. The command line exits with `exit_status`."""

    exit_status = 1


class UserError(BusmonError):
    """An error that only the user can mend: a retry is of no use."""

    exit_status = 2


class SettingsError(UserError):
    """A setting has a value that isn't accepted; the message names the setting and where it came from."""


class CatalogueError(UserError):
    """A catalogue file is wrong; the message names the file, the key and what was expected."""


class TopologyError(UserError):
    """A topology file is wrong, or the broker can't give what it asks for."""


class RulesError(UserError):
    """A file of thresholds or rules is wrong; the message names the file, the key and what was expected."""


class ShardOwnedError(UserError):
    """Another process holds this shard's lock."""


class FleetRunningError(UserError):
    """Another supervisor, or what is left of one, holds the registry directory; the message names its process."""


class RegistryError(BusmonError):
    """The registry directory can't be used: its permissions, a full disk, a file of another version."""


class LogFormatError(BusmonError):
    """An entry of a shard's log is of another version of busmon, or isn't busmon's; no reader may skip it."""


class LogBrokenError(BusmonError):
    """A shard's log isn't the one that its reader knows: records are missing or differ. The reader must start again."""


class UncountedError(BusmonError, OSError):
    """A commit of a replicated shard doesn't count, or isn't known to; as with a full disk, the batch is kept."""


class BusError(BusmonError):
    """An error that the broker reported, or a reply that it failed to send."""


class BrokerUnreachableError(BusError):
    """No connection, or it was lost; worth trying again."""


class BrokerUnsettledError(BrokerUnreachableError):
    """The broker can't answer yet: a leader is elected, or a queue's process starts; worth trying again."""


class BrokerRefusedError(BusError):
    """The broker answered no: credentials, permission, a missing or a different object."""


class LoginRefusedError(BrokerRefusedError):
    """The broker refuses the user, the password, the mechanism, or the user in the virtual host."""


class PublishRefusedError(BusError):
    """The broker returned or nacked a publish, so the body is not stored anywhere."""


class LogInterruptedError(BusError):
    """The connection to a shard's log was interrupted: entries that were appended may be in the log, or not."""


class LogMissingError(LogInterruptedError):
    """The broker has no such stream."""


class LogReplacedError(LogInterruptedError):
    """The stream isn't the one that was read before: it was deleted and made again, or it lost its end."""


class MissingExtraError(UserError):
    """A library that is only installed on request isn't; the message names the extra that brings it."""


class CompiledModuleError(UserError):
    """Compiled modules are there and can't be used; the message has the reason and the way to do without them."""


class SpoolError(BusmonError):
    """An agent's spool can't be written or read: a full disk, its permissions; the message names the directory."""


class CountedError(BusmonError):
    """A refusal that is counted by its reason.

    Attributes:
        reason: a constant word for a label value, for example `invalid_json`.
        detail: what is wrong, for a person.
    """

    @property
    def reason(self) -> str:
        """Return a constant word."""
        return str(self.args[0])

    @property
    def detail(self) -> str:
        """Return a line of at most `MAX_DETAIL_CHARACTERS`; what a stranger stated in it may be longer."""
        return str(self.args[1])[:MAX_DETAIL_CHARACTERS]

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class EnvelopeError(CountedError):
    """An invalid body, which goes to quarantine whole."""

    if TYPE_CHECKING:

        def __init__(self, reason: BodyReason, detail: str) -> None: ...


class AdoptionError(CountedError):
    """A metric that no catalogue names can't be taken up."""

    if TYPE_CHECKING:

        def __init__(self, reason: SampleReason, detail: str) -> None: ...


class RejectedError(CountedError):
    """A sample can't be counted; the other samples of its envelope are.

    Samples may be rejected many thousand times a second, so a detail is a constant or a text that is made once.
    """

    if TYPE_CHECKING:  # a constructor of our own would take longer than all else of a rejection

        def __init__(self, reason: SampleReason, detail: str) -> None: ...


class DependencyError(BusmonError):
    """A dependency doesn't answer as it should; the message says how, without naming it."""


class WebFileError(UserError):
    """The web configuration file, or a certificate that it names, is wrong; the message names file and key."""


class ListenError(UserError):
    """The exporter's address can't be listened on; the message names it."""


class ScrapeBusyError(BusmonError):
    """More scrapes of different families wait than may; worth trying again."""


class ReplicaIncompleteError(BusmonError):
    """A replica on this host isn't whole yet, so its totals can't be shown; worth trying again."""


class ExporterUnreachableError(BusmonError):
    """No exporter answers at the address, or none that is understood; the message names it and the next command."""


class DemoError(BusmonError):
    """The demo can't start or go on; the message says what is missing or what stopped."""
