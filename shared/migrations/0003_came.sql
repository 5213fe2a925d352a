-- When the broker got a dead letter of an outsider: tried again, it has come no later than that.
alter table dead_letter add column came_at timestamptz;
