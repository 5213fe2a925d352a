-- Since when a version answers: rows of it may be counted from then on. Null where that was not
-- written down.
alter table model add column crowned_at timestamptz;
