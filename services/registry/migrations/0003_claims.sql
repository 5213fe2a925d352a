-- A rollout may wait, go on and wait again: its claims weigh the same now, and the newest counts.
update claim set weight = 60 where weight > 60 and weight < 1000;
