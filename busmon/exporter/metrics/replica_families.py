"""The families of this host's replicas, made of the roll call; there are none without replication. Pure."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from busmon.exporter.readiness.rollcall import REPLICA_STATES, ReplicaRow, RollCall

_LABELS = ("shard", "host")


def collect(roll: RollCall, host: str) -> Iterator[Metric]:
    """Yield the families of the replicas on this host."""
    replicas = {str(row.shard): row.replica for row in roll.shards if row.replica is not None}
    if replicas:
        yield _states(replicas, host)
        yield _owners(replicas)
        yield from _figures(replicas, host)


def _states(replicas: dict[str, ReplicaRow], host: str) -> Metric:
    family = GaugeMetricFamily(
        "busmon_replica_state",
        "Whether the host's replica of the shard is in this state (1) or not (0).",
        labels=[*_LABELS, "state"],
    )
    for shard, replica in replicas.items():
        for state in REPLICA_STATES:
            family.add_metric([shard, host, state], replica.state == state)
    return family


def _owners(replicas: dict[str, ReplicaRow]) -> Metric:
    family = GaugeMetricFamily(
        "busmon_shard_owner", "The host that owns the shard, as this exporter's replica knows it (1).", labels=_LABELS
    )
    for shard, replica in replicas.items():
        if replica.owner:
            family.add_metric([shard, replica.owner], 1)
    return family


def _figures(replicas: dict[str, ReplicaRow], host: str) -> Iterator[Metric]:
    lag = GaugeMetricFamily(
        "busmon_replica_lag_seconds", "Time for which the host's replica may lack records.", labels=_LABELS
    )
    size = GaugeMetricFamily(
        "busmon_log_bytes", "Bytes of the shard's log since its last snapshot, as the replica read it.", labels=_LABELS
    )
    limit = GaugeMetricFamily(
        "busmon_log_limit_bytes", "Bytes of the shard's log that RabbitMQ keeps in any case.", labels=_LABELS
    )
    for shard, replica in replicas.items():
        if replica.lag_seconds is not None:
            lag.add_metric([shard, host], replica.lag_seconds)
        size.add_metric([shard, host], replica.log_bytes)
        limit.add_metric([shard, host], replica.log_limit_bytes)
    yield from (lag, size, limit)
