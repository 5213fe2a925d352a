"""deployer: brings accepted versions to the endpoints, and back.

Hears: verdicts, definitions, publications, what serving measured, applied and refused, losses by
late labels, degraded quality, signed requests.
Says: every step of a rollout, the whole desired state of an endpoint, promotions and rollbacks.
Owns: the champion of each model, approvals, rollouts and their timers.
"""
