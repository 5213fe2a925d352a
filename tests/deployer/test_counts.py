"""What a measure says of an arm: as evidence by visits, as exposure by rows."""

from datetime import timedelta

from services.deployer.domain import Counts, counts_of, rows_of
from shared.events import ArmMeasure


def test_a_canary_is_judged_by_visits_and_its_exposure_by_rows() -> None:
    objective = timedelta(seconds=1)
    arm = ArmMeasure(
        version=2,
        role="challenger",
        requests=50,
        errors=40,
        latency_counts=(50,),
        visits=3,
        visits_failed=1,
        visits_slow=2,
    )

    assert counts_of(arm, objective) == Counts(requests=3, errors=1, slow=2)
    assert rows_of(arm, objective) == Counts(requests=50, errors=40, slow=0)
