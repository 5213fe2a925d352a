-- What judging several arms beside each other needs.

-- A prediction may have been answered while requests were shared: whom it was about, the share of
-- its arm, the versions they were shared among (the champion's first), and whether its loss was told.
alter table prediction
    add column entity text,
    add column weight double precision not null default 1,
    add column arms   jsonb not null default '[]',
    add column told   boolean not null default false;
create index prediction_arms on prediction using gin (arms) where not told and arms <> '[]';

-- local: answers that nobody saw, each beside the prediction that was seen instead. They join no
-- window and take no labels of their own.
create table unseen (
    id           text primary key,
    seen         text not null,
    model        text not null,
    version      integer not null,
    answer       jsonb not null,
    score        double precision,
    weight       double precision not null,
    predicted_at timestamptz not null,
    heard_at     timestamptz not null default now(),
    loss         double precision,
    told         boolean not null default false
);
create index unseen_seen on unseen (seen);
create index unseen_age on unseen (heard_at);
create index unseen_untold on unseen (model, version) where not told;
