"""trainer: decides what is worth training and fits it.

Hears: published dataset versions, definitions, requests to retrain, promotions and rollbacks.
Says: every run that started, completed or failed, and every trigger that started none, with why.
Owns: the reasons for and against a training, runs, schedules.
"""
