-- Freezes that end and datasets that are published look for what waits, among all that ever was.
create index rollout_stage on rollout (stage);
