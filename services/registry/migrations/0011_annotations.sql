-- derived: what people say of periods of datasets. The events are the truth; these rows are for lists.
create table annotation (
    annotation  uuid primary key,
    dataset     text not null,
    state       text not null check (state in ('proposed', 'active', 'declined', 'lifted')),
    tag         text not null,
    "column"    text not null,
    starts_at   timestamptz not null,
    ends_at     timestamptz not null check (ends_at > starts_at),
    models      jsonb not null,
    share       double precision not null,
    author      text not null,
    by          text not null,
    reason      text not null,
    said        text not null,
    evidence    jsonb not null,
    written_at  timestamptz not null,
    changed_at  timestamptz not null,
    event_id    uuid not null,
    -- Whoever wrote it may not be the second person, should the rules in the code ever be passed by.
    approved_by text check (approved_by is null or approved_by <> author)
);
create index annotation_of_dataset on annotation (dataset, annotation desc);
