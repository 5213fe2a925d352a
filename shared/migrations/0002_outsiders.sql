-- local: where on the broker records of outsiders lie for which there was no more room among the dead
-- letters, and what is wrong with them: the newest of each topic, each at its place in a ring.
create table turned_away (
    consumer  text not null,
    topic     text not null,
    place     integer not null,
    partition integer not null,
    "offset"  bigint not null,
    failure   text not null,
    reason    text not null,
    at        timestamptz not null default now(),
    primary key (consumer, topic, place),
    unique (consumer, topic, partition, "offset")
);

-- local: how many there ever were; its row lock gives them their places.
create table turned_away_total (
    consumer text not null,
    topic    text not null,
    number   bigint not null,
    primary key (consumer, topic)
);

-- local: how often a job was given back for no fault of its own; such attempts do not count.
alter table job add column given_back integer not null default 0;
