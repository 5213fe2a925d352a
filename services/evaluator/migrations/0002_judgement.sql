-- How often somebody was crowned: a verdict against a champion who has come back is said again.
alter table champion add column reign bigint not null default 0;

-- A verdict also depends on the anchor, and knows the event that said it.
alter table verdict
    add column anchor   bigint not null default 0,
    add column reign    bigint not null default 0, -- in which it was said last
    add column event_id uuid,
    add column split    text,
    add column card     text,
    add column card_html text;
alter table verdict drop constraint verdict_pkey;
alter table verdict add primary key (model, version, champion, anchor, policy);
create index verdict_newest on verdict (model, judged_at desc);

-- derived: the best champions so far; the newest that is not retired is the anchor.
create table anchor (
    model      text not null,
    place      bigint not null,
    version    bigint not null,
    manifest   text not null,
    since      timestamptz not null,
    retired_at timestamptz,
    retired_by text,
    reason     text not null default '',
    primary key (model, place)
);
insert into anchor (model, place, version, manifest, since)
    select model, 1, version, manifest, now() from champion where version is not null;

-- derived: how many verdicts a model has had from the same held-out rows.
create table holdout_use (
    model text not null,
    split text not null,
    uses  bigint not null,
    primary key (model, split)
);

-- derived: whose a model is, and which models share a false-discovery budget with it.
create table known_model (
    model   text primary key,
    owner   text not null,
    fleet   text, -- null: it shares none
    version bigint not null
);
create index known_model_fleet on known_model (fleet);

-- derived: claims made and accepted in a fleet's quarter; locked by whoever decides.
create table fleet_stream (
    stream   text primary key,
    claims   bigint not null default 0,
    accepted bigint not null default 0
);
