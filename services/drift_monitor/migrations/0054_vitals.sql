-- The newest window with a figure is asked for every few seconds, of every champion: those without
-- one, thousands where labels never come, are not read for it.
create index window_measured on window_quality (model, version, number) where quality is not null;
create index window_estimated on window_quality (model, version, number) where estimate is not null;
