-- What outsiders say may have any id, also one of a fact that is yet to come. It stands in the log under
-- the id that it carries, which what follows from it names as its cause; but only our own facts are told
-- apart by their id, outsiders' events by their key, so that neither keeps the other out.
alter table event_log add column key uuid;
alter table event_log drop constraint event_log_event_id_key;
create unique index event_log_once on event_log (coalesce(key, event_id));
