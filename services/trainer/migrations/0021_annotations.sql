-- derived: what people say of periods of datasets; of two over one row the later one counts.
create table annotation (
    annotation uuid primary key,
    dataset    text not null,
    state      text not null,
    tag        text not null,
    "column"   text not null,
    starts_at  timestamptz not null,
    ends_at    timestamptz not null,
    models     text[] not null
);
create index annotation_of_dataset on annotation (dataset, annotation) where state = 'active';
