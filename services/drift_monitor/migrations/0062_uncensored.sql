-- The newest window whose labels tell a figure is asked for every few seconds, of every champion;
-- windows that are censored tell none, and may be all that a model has.
drop index window_measured;
create index window_measured on window_quality (model, version, number)
    where quality is not null and state is distinct from 'censored';
