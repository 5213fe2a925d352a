-- What is forgotten is found by its age; windows by when the monitor closed them, whatever moments
-- their rows have. The windows before one are those of its season.
create index window_age on window_sketch (closed_at) where closed_at is not null;
create index report_age on report (requested_at);
create index brake_age on brake (lifted_at) where lifted_at is not null;
create index proposal_age on proposal (ends_at);
