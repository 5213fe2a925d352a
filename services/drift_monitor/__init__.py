"""Watches what models are asked and what they answer, and says when a fresh one is wanted.

Hears: predictions and ground truth (streams), `model.registered`, `model.promoted`,
`deployment.rolled_back`.
Says: `window.evaluated`, `drift.detected`/`cleared`, `quality.measured`/`degraded`/`recovered`,
`losses.observed`, `retraining.requested`/`withheld`.
Owns: predictions and labels, sketches of windows, drift state, reports.
"""
