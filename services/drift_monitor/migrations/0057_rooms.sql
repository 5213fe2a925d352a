-- Labels that wait for predictions have a room per model, and one for all models that nobody knows:
-- whoever makes up names has no more room than one model. Of a full room the oldest labels go.
alter table waiting_label add column room text not null default '';
update waiting_label w set room = w.model from model m where m.model = w.model;
create index waiting_label_room on waiting_label (room, heard_at);
