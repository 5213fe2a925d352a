-- derived: one row per model, locked by whoever decides about it. `body` is the whole state that
-- decisions need (services/deployer/domain.py, Endpoint); the other columns repeat parts of it for
-- queries. `due_at` is its timer, made for `due_seq`.
create table endpoint (
    model      text primary key,
    generation bigint not null,
    seq        bigint not null,
    champion   bigint,
    body       jsonb not null,
    due_at     timestamptz,
    due_seq    bigint not null,
    changed_at timestamptz not null
);
create index endpoint_due on endpoint (due_at) where due_at is not null;

-- derived: every reign of a champion.
create table champion (
    id         bigserial primary key,
    model      text not null references endpoint (model),
    version    bigint not null,
    manifest   text not null,
    since_at   timestamptz not null,
    until_at   timestamptz
);
create unique index one_champion_per_model on champion (model) where until_at is null;

-- derived: one row per version that was ever accepted.
create table rollout (
    id              uuid primary key,
    model           text not null references endpoint (model),
    version         bigint not null,
    dataset_version bigint not null,
    stage           text not null check (stage in
                        ('awaiting_verdict', 'awaiting_approval', 'awaiting_window', 'canary',
                         'promoted', 'aborted', 'superseded', 'rejected')),
    at              timestamptz not null,
    body            jsonb not null,
    unique (model, version)
);
create unique index one_active_rollout_per_model on rollout (model)
    where stage in ('awaiting_approval', 'awaiting_window', 'canary');
create unique index one_waiting_version_per_model on rollout (model)
    where stage = 'awaiting_verdict';

-- derived: who defined a model last; the same person may not approve its versions.
create table author (
    model      text primary key,
    defined_by text not null
);

-- local: replicas of serving, gone when they fall silent.
create table replica (
    replica text primary key,
    url     text not null,
    models  integer not null,
    seen_at timestamptz not null
);

-- local: what each replica said it answers by.
create table applied (
    model      text not null,
    replica    text not null,
    generation bigint not null,
    versions   bigint[] not null,
    at         timestamptz not null,
    primary key (model, replica)
);
