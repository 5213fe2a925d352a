-- derived: the newest number of every dataset. Its row is locked while a version is numbered.
create table dataset (
    name        text primary key,
    latest      integer not null default 0,
    created_at  timestamptz not null default now()
);

-- derived: every version; two contents are two versions, one content is one.
create table dataset_version (
    dataset      text not null references dataset (name),
    version      integer not null,
    digest       text not null,
    format       text not null,
    size_bytes   bigint not null,
    rows         bigint not null,
    kinds        jsonb not null,
    profile      text not null,
    published_by text not null,
    offer        uuid,
    event_id     uuid not null unique,
    cascade      uuid not null,
    published_at timestamptz not null,
    primary key (dataset, version),
    unique (dataset, digest)
);

-- derived: every model with its newest definition and its newest version number.
create table model (
    name         text primary key,
    dataset      text not null,
    definition   integer not null default 0,
    latest       integer not null default 0,
    -- Of the newest numbered version: a candidate of older data gets no number.
    trained_on   text,
    trained_on_version integer,
    defined_at   timestamptz not null default now()
);
create index model_dataset on model (dataset);

-- derived: every definition a model ever had.
create table definition (
    model        text not null references model (name),
    number       integer not null,
    dataset      text not null,
    spec         jsonb not null,
    spec_digest  text not null,
    code_digest  text not null,
    defined_by   text not null,
    commit       text,
    event_id     uuid not null unique,
    cascade      uuid not null,
    defined_at   timestamptz not null,
    primary key (model, number)
);
create index definition_spec on definition (model, spec_digest, number desc);

-- derived: every numbered candidate. The number is the fence for everything after.
create table model_version (
    model           text not null references model (name),
    version         integer not null,
    run             uuid not null unique,
    dataset         text not null,
    dataset_version integer not null,
    -- The whole `training.completed`: digests, metrics, hyperparameters, candidates, times.
    training        jsonb not null,
    trained_at      timestamptz not null,
    event_id        uuid not null unique,
    cascade         uuid not null,
    registered_at   timestamptz not null,
    primary key (model, version)
);
create index model_version_dataset on model_version (dataset, dataset_version);

-- derived: every fact, in the order in which it was folded. Rows are added under one lock, so that
-- the order of `seq` is the order of the commits and a reader's position misses nothing.
create table event_log (
    seq         bigserial primary key,
    event_id    uuid not null unique,
    topic       text not null,
    type        text not null,
    subject     text not null,
    sequence    bigint,
    source      text not null,
    correlation uuid not null,
    causation   uuid,
    time        timestamptz not null,
    data        jsonb not null
);
create index event_log_cascade on event_log (correlation, seq);
create index event_log_subject on event_log (subject, seq);
create index event_log_type on event_log (type, seq);

-- derived: what each fact says about the end of (dataset version, model); the heaviest one, and
-- among equals the earliest, is the outcome (see shared/outcomes.py). Claims of the rollout know
-- the model's version instead of the dataset's; the registration's claim knows both.
create table claim (
    event_id        uuid not null,
    model           text not null,
    dataset         text,
    dataset_version integer,
    version         integer,
    state           text not null,
    weight          integer not null,
    detail          text not null,
    at              timestamptz not null,
    primary key (event_id, model)
);
create index claim_pair on claim (dataset, dataset_version, model) where dataset is not null;
create index claim_version on claim (model, version) where version is not null;
create index claim_model on claim (model);
