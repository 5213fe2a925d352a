-- What the drift monitor remembers. `derived` tables can be rebuilt from the log; `local` ones cannot.

-- derived: who answers for a model, and when a fresh version was last asked for.
create table model (
    model      text primary key,
    champion   integer,
    asked_at   timestamptz
);

-- derived: a registered version, what its windows are compared with, and how it stands.
create table version (
    model         text not null,
    version       integer not null,
    manifest      text not null,
    reference     text not null,
    columns       jsonb not null,
    classes       jsonb not null,
    baseline      jsonb not null,
    metric        text not null,
    policy        jsonb not null,
    watch         jsonb not null,
    registered_at timestamptz not null,
    primary key (model, version)
);

-- local: prediction batches that were counted. Their number and content never change, so a repeat
-- is known by its number.
create table batch (
    replica  text not null,
    number   bigint not null,
    heard_at timestamptz not null default now(),
    primary key (replica, number)
);
create index batch_age on batch (heard_at);

-- local: the sketch of every window; one per version is open. Counts are packed.
create table window_sketch (
    model      text not null,
    version    integer not null,
    number     integer not null,
    rows       integer not null,
    counts     bytea not null,
    started_at timestamptz not null,
    ended_at   timestamptz not null,
    closed_at  timestamptz,
    severity   text,
    mode       text,
    alpha      double precision,
    detail     text,
    features   jsonb,
    labels     integer not null default 0,
    steps      integer not null default 0,
    quality    jsonb,
    primary key (model, version, number)
);
create unique index window_open on window_sketch (model, version) where closed_at is null;

-- local: names of features in the order in which rows have their values.
create table column_names (
    digest text primary key,
    names  jsonb not null
);

-- local: predictions that wait for their labels or have them. Without a window: a version that is
-- not known yet, or an answer that no version gave.
create table prediction (
    id            text primary key,
    model         text not null,
    version       integer,
    "window"      integer,
    place         bigserial,
    names         text not null references column_names (digest),
    features      bytea not null,
    answer        jsonb not null,
    score         double precision,
    arm           text not null,
    rung          text not null,
    predicted_at  timestamptz not null,
    heard_at      timestamptz not null default now(),
    label         jsonb,
    revision      integer,
    observed_at   timestamptz,
    label_event   uuid,
    loss          double precision,
    baseline_loss double precision
);
create index prediction_window on prediction (model, version, "window", place);
create index prediction_age on prediction (heard_at);

-- local: labels that came before their predictions, the one that counts. Anybody may name any
-- prediction, so what is said for one model never hides what is said for another.
create table waiting_label (
    prediction  text not null,
    model       text not null,
    value       jsonb not null,
    revision    integer not null,
    observed_at timestamptz not null,
    event       uuid not null,
    heard_at    timestamptz not null default now(),
    primary key (prediction, model)
);
create index waiting_label_age on waiting_label (heard_at);

-- local: reports that somebody asked for.
create table report (
    id           uuid primary key,
    model        text not null,
    version      integer not null,
    "window"     integer not null,
    state        text not null default 'waiting' check (state in ('waiting', 'done', 'failed')),
    artifact     text,
    size_bytes   bigint,
    summary      jsonb,
    detail       text,
    requested_by text not null,
    requested_at timestamptz not null default now(),
    finished_at  timestamptz
);
