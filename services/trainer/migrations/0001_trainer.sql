-- derived: every published version of every dataset. `columns` are pairs of name and kind, because
-- jsonb keeps no order.
create table dataset_version (
    dataset    text not null,
    version    bigint not null,
    digest     text not null,
    format     text not null,
    size_bytes bigint not null,
    rows       bigint not null,
    columns    jsonb not null,
    primary key (dataset, version)
);

-- derived: how each model is defined now. Its row lock puts decisions about a model in one order.
create table model (
    model       text primary key,
    dataset     text not null,
    spec        jsonb not null,
    spec_digest text not null,
    code_digest text not null
);
create index model_of_dataset on model (dataset, model);

-- derived: versions that were champion, and the data that each was fitted to.
create table champion (
    model           text not null,
    version         bigint not null,
    dataset_version bigint not null,
    is_current      boolean not null,
    primary key (model, version)
);
create unique index one_champion_per_model on champion (model) where is_current;

-- local: what became of each job that somebody worked on.
create table run (
    id              uuid primary key references job (id),
    model           text not null,
    dataset         text not null,
    dataset_version bigint not null,
    started_at      timestamptz not null,
    finished_at     timestamptz,
    outcome         text check (outcome in ('completed', 'failed')),
    reason          text,
    result          jsonb,
    crashes         integer not null default 0,
    out_of_memory   integer not null default 0
);
create index run_of_model on run (model, started_at desc);

-- local: when the schedule of a model is due next; claimed with skip locked.
create table due (
    model    text primary key references model (model),
    schedule text not null,
    timezone text not null,
    due_at   timestamptz not null
);
create index due_next on due (due_at);
