"""Every message counts once in the log, whatever is lost, late or repeated."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.replication.schedules import DraftRules, PresentRules, find_faults

SEEDS = st.integers(min_value=0, max_value=2**32)


@settings(max_examples=400, deadline=None)
@given(SEEDS)
def test_a_message_counts_once_and_is_acknowledged_only_if_it_counts(seed: int) -> None:
    assert not find_faults(seed, PresentRules)


def test_the_model_finds_the_faults_of_the_first_draft() -> None:
    faults = [find_faults(seed, DraftRules) for seed in range(150)]

    assert any("is acknowledged and doesn't count" in fault for fault in faults)
