-- How often the verdict of a closed window has failed; after some of them it goes without.
alter table window_sketch add column tries int not null default 0;
