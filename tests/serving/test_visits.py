"""Rows of one entity share their fate, so evidence counts who asked, not how often."""

from services.serving.domain.tallies import FAILED, SLOW, ArmTally, Visits


def test_an_entity_that_asks_again_is_one_visit_with_all_that_went_wrong() -> None:
    visits = Visits()

    for fate in (0, FAILED, FAILED, SLOW):
        visits.note("pump-1", fate)
    visits.note("pump-2", 0)

    assert visits.count() == 2
    assert visits.count(FAILED) == 1
    assert visits.count(SLOW) == 1


def test_rows_without_an_entity_are_a_visit_each() -> None:
    visits = Visits()

    for fate in (FAILED, FAILED, 0):
        visits.note(None, fate)

    assert (visits.count(), visits.count(FAILED)) == (3, 2)


def test_the_next_measure_begins_with_no_visits() -> None:
    tally = ArmTally()
    tally.visits.note("pump-1", FAILED)

    tally.clear()

    assert tally.visits.count() == 0


def test_visits_that_are_not_asked_for_for_long_stay_small() -> None:
    visits = Visits(most=3)

    for number in range(1000):
        visits.note(None, FAILED)
        visits.note(f"pump-{number}", 0)
    visits.note("pump-0", SLOW)

    assert (len(visits.fates), len(visits.alone)) == (3, 1)
    assert (visits.count(), visits.count(FAILED), visits.count(SLOW)) == (1003, 1000, 1)
