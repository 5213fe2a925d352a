-- Windows that are filled in memory, and what is needed to fill them again after a start.

-- How rows of the version are cut into windows: values per row, and its cells packed small. Without
-- these, registered before they were kept; they are read from the profile once more. `newest` is the
-- number of its newest window.
alter table version
    add column season      text,
    add column close_after interval,
    add column width       integer,
    add column layout      bytea,
    add column newest      integer not null default 0;
update version v set newest = coalesce(
    (select max(number) from window_sketch w where w.model = v.model and w.version = v.version), 0);

-- A window has rows of one season; one of each season is open. `begun_at` is the moment of its first
-- row, `opened_at` the monitor's own clock then. `absent`: rows without a column, by its name.
alter table window_sketch
    add column season    text not null default '',
    add column begun_at  timestamptz,
    add column opened_at timestamptz not null default now(),
    add column absent    jsonb not null default '{}';
update window_sketch set begun_at = started_at;
drop index window_open;
create unique index window_open on window_sketch (model, version, season) where closed_at is null;
create index window_history on window_sketch (model, version, season, number desc)
    where closed_at is not null;
-- Open windows are written with every batch: bytes as they come, and room for the next version.
alter table window_sketch alter column counts set storage external;
alter table window_sketch set (fillfactor = 60);

-- local: how far each partition of a stream was applied, saved with what was counted from it.
create table applied (
    topic       text not null,
    "partition" integer not null,
    position    bigint not null,
    applied_at  timestamptz not null default now(),
    primary key (topic, "partition")
);

-- local: what is wrong with what a version is asked with, since when, and how many windows without
-- it there were since. One row while an alarm stands.
create table data_alarm (
    model     text not null,
    version   integer not null,
    kind      text not null check (kind in ('schema', 'missing', 'range', 'unseen', 'stale')),
    "window"  integer,
    raised_at timestamptz not null,
    detail    text not null,
    clean     integer not null default 0,
    primary key (model, version, kind)
);

-- What a version learned from, and how long newer data of its dataset may be unserved.
alter table version
    add column dataset         text,
    add column dataset_version integer,
    add column freshness       interval;
