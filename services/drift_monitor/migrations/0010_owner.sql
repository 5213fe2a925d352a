-- derived: the team that a model belongs to, from its definition and its versions. Empty for versions
-- that were known before; only those who see all teams see them until the model is defined again.
alter table model add column owner text not null default '';
