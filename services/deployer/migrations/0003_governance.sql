-- derived: freezes that operators declared. No models means all; one that was lifted ended then.
create table frozen (
    id          text primary key,
    models      text[] not null,
    starts_at   timestamptz not null,
    ends_at     timestamptz not null,
    by          text not null,
    reason      text not null,
    declared_at timestamptz not null,
    lifted_at   timestamptz,
    lifted_by   text,
    lifted_why  text,
    check (ends_at > starts_at)
);
create index frozen_until on frozen (ends_at) where lifted_at is null;

-- derived: when each dataset had its newest version; rollouts may wait for one.
create table published (
    dataset text primary key,
    version bigint not null,
    at      timestamptz not null
);

-- derived: approvals that count. The rules are in services/deployer/permission.py; these are the
-- same once more, for whoever might get past them.
create table approval (
    rollout    uuid not null,
    evaluation uuid not null,
    manifest   text not null,
    by         text not null,
    excluded   text[] not null,
    at         timestamptz not null,
    request    uuid unique,
    primary key (rollout, evaluation, by),
    check (by <> all (excluded))
);

-- derived: verdicts, for people who decide by them. `rollout` is what a rollout of the version is
-- called, whether there is one or not.
create table verdict (
    evaluation uuid primary key,
    model      text not null,
    version    bigint not null,
    rollout    uuid not null,
    accepted   boolean not null,
    at         timestamptz not null,
    body       jsonb not null
);
create index verdict_of_version on verdict (model, version, at);
create index verdict_of_rollout on verdict (rollout, at);

-- `author` says also whose model it is: the team whose people may decide about it.
alter table author add column owner text not null default '';
