-- The log becomes tamper-evident: every row that is kept for ever gets a link, the SHA-256 of the link
-- before it and the row's canonical text. A trigger makes the link in the transaction that numbers the
-- row; the lock under which rows are numbered (decision 9) puts the links in the order of the commits.
-- Rows that are there already are chained here, once, in their order.

lock table event_log in exclusive mode;

-- Signs of life and measures are forgotten after a while, so they are no part of the chain.
create function is_chained(type text) returns boolean language sql immutable as $$
    select type not in ('tidewheel.replica.announced.v1', 'tidewheel.serving.measured.v1')
$$;

-- The canonical text of a row: one JSON array of all its columns. `jsonb` writes the same value in
-- the same way whatever the session is set to; moments are UTC with microseconds.
create function event_log_text(e event_log) returns text language sql stable as $$
    select jsonb_build_array(
        e.seq, e.event_id, e.topic, e.type, e.subject, e.sequence, e.source, e.correlation,
        e.causation, to_char(e.time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), e.data
    )::text
$$;

-- local: the links. Their order is the order in which this registry heard, which no replay repeats.
create table audit_link (
    seq   bigint primary key,
    chain bytea not null
);

-- derived: heads of the chain that were told on the topic of anchors, and heard from there.
create table audit_anchor (
    event_id uuid primary key,
    position bigint not null,
    chain    text not null,
    time     timestamptz not null
);
create index audit_anchor_position on audit_anchor (position);

-- local: heads that this registry has told, each once.
create table audit_said (
    position bigint not null,
    chain    text not null,
    primary key (position, chain)
);

do $$
declare
    one event_log;
    before bytea := decode(repeat('00', 32), 'hex');
begin
    for one in select * from event_log where is_chained(type) order by seq loop
        before := sha256(before || convert_to(event_log_text(one), 'UTF8'));
        insert into audit_link (seq, chain) values (one.seq, before);
    end loop;
end $$;

create function link_event() returns trigger language plpgsql as $$
declare
    before bytea;
begin
    select chain into before from audit_link order by seq desc limit 1;
    insert into audit_link (seq, chain) values (new.seq, sha256(
        coalesce(before, decode(repeat('00', 32), 'hex')) || convert_to(event_log_text(new), 'UTF8')
    ));
    return null;
end $$;

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the log is append-only: % on % is refused', tg_op, tg_table_name
        using errcode = 'integrity_constraint_violation';
end $$;

create trigger event_log_link after insert on event_log
    for each row when (is_chained(new.type)) execute function link_event();
create trigger event_log_no_update before update on event_log
    for each row execute function refuse_change();
create trigger event_log_no_delete before delete on event_log
    for each row when (is_chained(old.type)) execute function refuse_change();
create trigger event_log_no_truncate before truncate on event_log
    for each statement execute function refuse_change();
create trigger audit_link_stays before update or delete on audit_link
    for each row execute function refuse_change();
create trigger audit_link_no_truncate before truncate on audit_link
    for each statement execute function refuse_change();
create trigger audit_anchor_stays before update or delete on audit_anchor
    for each row execute function refuse_change();
create trigger audit_anchor_no_truncate before truncate on audit_anchor
    for each statement execute function refuse_change();

-- What was in production at a moment is asked by model, type and time; a rollout's steps by its id.
create index event_log_story on event_log (subject, type, time desc, sequence desc);
create index event_log_rollout on event_log ((data ->> 'rollout')) where data ? 'rollout';
