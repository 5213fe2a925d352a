-- When a closed window is judged that could not be when it closed; null for all others.
alter table window_sketch add column judge_at timestamptz;
create index window_unjudged on window_sketch (model, version, number) where judge_at is not null;
