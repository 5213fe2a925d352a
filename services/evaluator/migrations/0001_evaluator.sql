-- derived: every numbered candidate, and what became of it.
create table candidate (
    model      text not null,
    version    bigint not null,
    registered jsonb not null, -- the event's data, complete enough to judge by
    cause      uuid not null,
    correlation uuid not null,
    state      text not null default 'waiting'
               check (state in ('waiting', 'accepted', 'rejected', 'promoted', 'ended')),
    primary key (model, version)
);

-- derived: who answers now; judged against under this row's lock.
create table champion (
    model    text primary key,
    version  bigint,
    manifest text
);

-- derived: one verdict per candidate, champion (0 for none) and policy.
create table verdict (
    model      text not null,
    version    bigint not null,
    champion   bigint not null,
    policy     text not null,
    job        uuid not null,
    accepted   boolean not null,
    gates      jsonb not null,
    judged_at  timestamptz not null,
    primary key (model, version, champion, policy),
    foreign key (model, version) references candidate (model, version)
);
