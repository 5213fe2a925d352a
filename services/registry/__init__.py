"""Datasets, model definitions and versions, and the story of every cascade.

Hears: offers of datasets (to look at the file), `training.completed` (to give the candidate its
number), and every facts topic (to keep the log that people read).
Says: `dataset.published`, `dataset.refused`, `model.defined`, `model.registered`,
`candidate.superseded`.
Owns: dataset versions and their profiles, model definitions, version numbers, lineage.
"""
