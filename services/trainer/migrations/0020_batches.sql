-- A version may answer a whole dataset version at once.

-- derived: which artifact a registered version is. Versions that were registered before this table
-- was there are not in it; the next training brings one that is.
create table model_version (
    model    text not null,
    version  bigint not null,
    manifest text not null,
    primary key (model, version)
);

-- local: what became of each batch of answers.
create table batch (
    id              uuid primary key references job (id),
    model           text not null,
    version         bigint not null,
    dataset         text not null,
    dataset_version bigint not null,
    requested_by    text not null,
    rows            bigint not null,
    done            bigint not null default 0,
    crashes         integer not null default 0,
    started_at      timestamptz,
    finished_at     timestamptz,
    outcome         text check (outcome in ('completed', 'failed')),
    reason          text,
    output          text,
    size_bytes      bigint,
    refused         bigint
);
create index batch_of_model on batch (model, id desc);
