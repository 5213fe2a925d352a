-- derived, all of it: which team a model and a dataset belong to. What a team may not see is asked for
-- in every list, so that pages stay full.
alter table model add column owner text not null default '';
update model m set owner = d.spec ->> 'owner'
from definition d where d.model = m.name and d.number = m.definition;
create index model_owner on model (owner, name);

-- derived: a dataset belongs to the team that first claimed its name, by publishing it in its own name
-- or by defining a model on it. The earliest claim counts whatever the order in which events are read.
create table dataset_owner (
    dataset    text primary key,
    owner      text not null,
    claimed_at timestamptz not null
);
insert into dataset_owner (dataset, owner, claimed_at)
select distinct on (dataset) dataset, spec ->> 'owner', defined_at from definition
order by dataset, defined_at, spec ->> 'owner';
