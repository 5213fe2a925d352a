"""Whose a new dataset is."""

from typing import Final

from shared.access import EVERY_TEAM, Principal, Role
from shared.errors import Conflict, Fault, InvalidInput, NotPermitted

NAME_TAKEN: Final = "This name is taken; choose another."
AUTHORS: Final = frozenset({Role.DATA_SCIENTIST})
PUBLISHERS: Final = frozenset({Role.PRODUCER})


def team_of(dataset: str, owner: str | None, principal: Principal, asked: str | None) -> str:
    """The team for which the principal publishes; empty for nobody's.

    Args:
        owner: the dataset's team; empty when it is nobody's yet, None when it is new.
        asked: the team that the principal names.

    Raises:
        NotPermitted: the principal may not publish for that team.
        Conflict: the dataset is another team's than the one named.
        InvalidInput: it is new and no team is named, though several are possible.
    """
    if owner and asked and asked != owner:
        raise Conflict(f"{dataset} belongs to team {owner}; leave the owner out.", code="owned")
    team = owner or asked
    if team is None:
        team = _only_team(principal) if owner is None else ""
    if not principal.may_in(team, PUBLISHERS):
        raise NotPermitted(
            f"In {f'team {team}' if team else 'every team'} this needs the role producer."
        )
    return team


def _only_team(principal: Principal) -> str:
    """The team in which the principal may publish; empty when it may in all."""
    if principal.may_in(EVERY_TEAM, PUBLISHERS):
        return ""
    possible = sorted(team for team in principal.teams if principal.may_in(team, PUBLISHERS))
    if len(possible) != 1:
        fault = Fault("/query/owner", "missing", f"one of {', '.join(possible)}")
        raise InvalidInput("Say which team the new dataset belongs to.", [fault])
    return possible[0]
