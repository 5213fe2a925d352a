-- Whether rows of a version, or labels of them, wait to be counted: it could not be read when they
-- came, or they are more than one transaction takes. They come before newer ones.
alter table version add column behind boolean not null default false;
create index version_behind on version (model, version) where behind;
