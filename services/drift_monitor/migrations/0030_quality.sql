-- Labels have tables of their own: an answer is written once, and its labels may come in any order.

-- local: labels that count now, and those that counted at some earlier moment. `place` is that of the
-- prediction, `at` its moment; `known_at` is when the label was accepted, `value` is JSON. Rows are added and at most
-- cease to count.
create table outcome (
    place         bigint not null,
    model         text not null,
    version       integer,
    "window"      integer,
    at            timestamptz not null,
    known_at      timestamptz not null,
    value         text not null,
    revision      integer not null,
    observed_at   timestamptz not null,
    event         uuid not null,
    loss          double precision,
    baseline_loss double precision,
    cell          smallint,
    counts        boolean not null,
    heard_at      timestamptz not null default now()
);
create unique index outcome_counting on outcome (place) where counts;
create unique index outcome_past on outcome (place, event) where not counts;
create index outcome_time on outcome (model, version, at);
create index outcome_age on outcome using brin (heard_at);

insert into outcome (place, model, version, "window", at, known_at, value, revision, observed_at,
    event, loss, baseline_loss, counts)
select place, model, version, "window", predicted_at, greatest(observed_at, predicted_at), label::text,
    revision, observed_at, label_event, loss, baseline_loss, true
from prediction where label is not null;

-- local: what labels have said about a window, and before them its scores: `per_cell` has its rows by
-- cell of the score. Revision 0: labels have said nothing
-- yet. Settled: no more labels are to be waited for.
create table window_quality (
    model    text not null,
    version  integer not null,
    number   integer not null,
    labels   integer not null default 0,
    steps    integer not null default 0,
    revision integer not null default 0,
    state    text,
    settled  boolean not null default false,
    quality  jsonb,
    estimate jsonb,
    per_cell integer[],
    primary key (model, version, number)
);
create index window_quality_open on window_quality (model, version, number)
    where not settled;

insert into window_quality (model, version, number, labels, steps, revision, quality)
select model, version, number, labels, steps, sign(steps)::int, quality from window_sketch
where labels > 0 or steps > 0;

-- local: how many labels came after which delay, and the age in seconds at which nearly all are there;
-- without one while too few have come.
create table label_delay (
    model   text primary key,
    came    integer[] not null,
    settled double precision
);

-- local: the running test on losses of each version, and the moment of the predictions up to which it
-- was fed.
create table detector (
    model   text not null,
    version integer not null,
    fed_to  timestamptz not null,
    bets    double precision[] not null,
    labels  integer not null,
    level   double precision not null,
    rule    text not null default '',
    primary key (model, version)
);

-- Every label for a prediction that is not known waits, not only the one that would count: what was
-- known when can be told later. `known_at` is when it was accepted.
alter table waiting_label add column known_at timestamptz;
update waiting_label set known_at = heard_at;
alter table waiting_label
    alter column known_at set not null,
    drop constraint waiting_label_pkey,
    add primary key (prediction, model, event);
create index waiting_label_model on waiting_label (model);

-- What labels had written into other tables is here now.
alter table prediction
    drop column label,
    drop column revision,
    drop column observed_at,
    drop column label_event,
    drop column loss,
    drop column baseline_loss;
alter table window_sketch
    drop column labels,
    drop column steps,
    drop column quality;
