-- From a confirmed change to a fresh version: where each model stands, and what all models share.

-- local: one row per model; what windows showed of it is no part of the log.
create table course (
    model        text primary key,
    owner        text not null default '',
    dataset      text not null default '',
    version      integer not null,
    phase        text not null check (phase in ('healthy', 'suspect', 'confirmed', 'retraining',
                                                'cooling', 'backoff', 'held')),
    confirmed_at timestamptz,
    refused      text not null default '',
    due_at       timestamptz,
    seen_at      timestamptz not null,
    body         jsonb not null
);
create index course_due on course (due_at) where due_at is not null;
create index course_confirmed on course (confirmed_at) where confirmed_at is not null;
create index course_dataset on course (dataset);

-- local: retrainings that were granted; one comes back to the budget an hour later.
create table token (
    model    text not null,
    owner    text not null,
    taken_at timestamptz not null
);
create index token_age on token (taken_at);

-- local: brakes, set and lifted; one per scope is set.
create table brake (
    scope     text not null,
    set_at    timestamptz not null,
    until     timestamptz not null,
    detail    text not null,
    confirmed integer not null,
    watched   integer not null,
    lifted_at timestamptz,
    lifted_by text,
    reason    text,
    primary key (scope, set_at)
);
create unique index brake_set on brake (scope) where lifted_at is null;

-- derived: versions of datasets, for how many rows have come since a model was made.
create table published (
    dataset text not null,
    version bigint not null,
    rows    bigint not null,
    at      timestamptz not null,
    primary key (dataset, version)
);

-- derived: what people say of periods of datasets.
create table annotation (
    annotation uuid primary key,
    dataset    text not null,
    state      text not null,
    tag        text not null,
    starts_at  timestamptz not null,
    ends_at    timestamptz not null,
    models     text[] not null,
    author     text not null
);
create index annotation_dataset on annotation (dataset, ends_at);

-- local: periods that were proposed, so that a thousand models do not propose the same one.
create table proposal (
    dataset   text not null,
    tag       text not null,
    starts_at timestamptz not null,
    ends_at   timestamptz not null,
    model     text not null,
    primary key (dataset, tag, starts_at, model)
);
