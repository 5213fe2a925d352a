-- What every service's database has. `derived` tables can be rebuilt from the log; `local` ones cannot.

-- local: everything this service ever said, append-only; republish and rebuild rest on it.
create table said (
    event_id   uuid primary key,
    topic      text not null,
    subject    text not null,
    sequence   bigint,
    digest     bytea not null,
    payload    bytea not null,
    said_at    timestamptz not null default now(),
    unique (topic, subject, sequence)
);

-- local: the next sequence of every subject; its row lock puts the events of a subject in commit order.
create table stream_head (
    topic    text not null,
    subject  text not null,
    sequence bigint not null,
    primary key (topic, subject)
) with (fillfactor = 50);

-- local: what is said and not yet acknowledged by the broker. Only the relay deletes from it.
create table outbox (
    id       bigserial primary key,
    event_id uuid not null unique, -- of `said`; both are written by one statement
    said_at  timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- local: the last sequence that this consumer finished, per topic and subject.
create table watermark (
    consumer text not null,
    topic    text not null,
    subject  text not null,
    sequence bigint not null,
    parked   boolean not null default false,
    primary key (consumer, topic, subject)
) with (fillfactor = 50);

-- local: ids of finished events that carry no sequence.
create table inbox (
    consumer text not null,
    event_id uuid not null,
    topic    text not null,
    heard_at timestamptz not null default now(),
    primary key (consumer, event_id)
);
create index inbox_age on inbox (topic, heard_at);

-- local: events set aside with their reason, in order per subject.
create table dead_letter (
    id        bigserial primary key,
    consumer  text not null,
    topic     text not null,
    partition integer not null,
    "offset"  bigint not null,
    subject   text not null,
    event     text not null,
    sequence  bigint,
    failure   text not null,
    reason    text not null,
    trace     text not null,
    key       bytea,
    payload   bytea,
    headers   jsonb not null default '[]',
    parked_at timestamptz not null default now(),
    unique (consumer, topic, partition, "offset")
);
create index dead_letter_subject on dead_letter (consumer, topic, subject, id);

-- local: long work. `attempt` is the fencing token.
create table job (
    id          uuid primary key,
    kind        text not null,
    natural_key text not null,
    subject     text not null,
    payload     jsonb not null,
    state       text not null default 'waiting'
                check (state in ('waiting', 'running', 'done', 'failed', 'superseded')),
    attempt     integer not null default 0,
    worker      text,
    lease_until timestamptz,
    run_after   timestamptz not null default now(),
    cause       uuid,
    correlation uuid not null,
    traceparent text,
    detail      text,
    created_at  timestamptz not null default now(),
    finished_at timestamptz,
    unique (kind, natural_key)
);
create index job_claimable on job (kind, run_after) where state in ('waiting', 'running');
create index job_subject on job (subject, created_at desc);

-- local: answers already given to requests that carried an Idempotency-Key; kept for a day.
create table idempotency (
    principal  text not null,
    key        text not null,
    body_hash  bytea not null,
    status     integer not null,
    body       bytea not null,
    created_at timestamptz not null default now(),
    primary key (principal, key)
);
