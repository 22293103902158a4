"""A family for a metric that no catalogue names, but whose publisher states its type.

Checks what one name, type and set of labels must fulfil by themselves; whether the name is free, and whether the fleet
has room for it, is for others to say. Pure; any thread, any process.
"""

from collections.abc import Sequence

from busmon.catalogue import naming
from busmon.catalogue.family import DEFAULT_BUCKETS, GAUGE, HISTOGRAM, MERGES, TYPES, Family, default_ttl_seconds
from busmon.errors import AdoptionError
from busmon.reasons import SampleReason

HELP = "Not in the catalogue: taken up from a publisher that stated its type."
"""The same for all, since a family's help is frozen at its first write."""

MAX_ADOPTED_BUCKETS = 64
"""Each bound is a line of every series in every scrape; a catalogue may want more, a publisher alone may not."""

MAX_ADOPTED_LABELS = 16
"""Each line of each series repeats the labels, so a publisher alone may not add more; a catalogue may."""


def adopt_family(
    name: str, type_: str, labelnames: Sequence[str], merge: str, *, outlives_source: bool = False
) -> Family:
    """Make the family; a histogram has prometheus_client's default buckets, a summary no quantiles.

    Raises:
        AdoptionError: its reason is `invalid_name`, `reserved_name`, `invalid_type`, `invalid_merge`,
            `outlives_source_mismatch` or `invalid_label`.
    """
    if fault := naming.adoption_fault(name, ()):
        raise AdoptionError(SampleReason.RESERVED_NAME, f"{name[:80]!r}: {fault}")
    if fault := naming.metric_name_fault(name):
        raise AdoptionError(SampleReason.INVALID_NAME, f"{name[:80]!r}: {fault}")
    if type_ not in TYPES:
        raise AdoptionError(SampleReason.INVALID_TYPE, f"{name!r}: the type is {', '.join(TYPES[:-1])} or {TYPES[-1]}")
    if merge not in (MERGES if type_ == GAUGE else MERGES[:1]):
        raise AdoptionError(SampleReason.INVALID_MERGE, f"{name!r}: a gauge's merge is one of {', '.join(MERGES)}")
    if outlives_source and (type_, merge) != (GAUGE, "latest"):
        raise AdoptionError(
            SampleReason.OUTLIVES_SOURCE_MISMATCH, f"{name!r}: only a gauge that is set outlives its source"
        )
    if len(labelnames) > MAX_ADOPTED_LABELS:
        fault = (
            f"it has {len(labelnames)} labels; at most {MAX_ADOPTED_LABELS} are taken where no catalogue names a metric"
        )
        raise AdoptionError(SampleReason.INVALID_LABEL, f"{name!r}: {fault}")
    if fault := naming.label_names_fault(labelnames):
        raise AdoptionError(SampleReason.INVALID_LABEL, f"{name!r}: {fault}")
    buckets = DEFAULT_BUCKETS if type_ == HISTOGRAM else ()
    family = Family(
        name,
        type_,
        HELP,
        tuple(labelnames),
        buckets,
        merge=merge,
        ttl_seconds=default_ttl_seconds(type_, outlives_source=outlives_source),
        outlives_source=outlives_source,
    )
    if fault := naming.adoption_fault(name, family.exposed):
        raise AdoptionError(SampleReason.RESERVED_NAME, f"{type_} {name!r}: {fault}")
    return family


def adopt_buckets(name: str, buckets: Sequence[float]) -> tuple[float, ...]:
    """Return the bounds that a histogram's first sample states.

    Raises:
        AdoptionError: `bucket_mismatch`: they are too many.
    """
    if len(buckets) > MAX_ADOPTED_BUCKETS:
        raise AdoptionError(
            SampleReason.BUCKET_MISMATCH, f"{name!r}: {len(buckets)} bounds; at most {MAX_ADOPTED_BUCKETS}"
        )
    return tuple(buckets)
