-- Verdicts of the release before 0002 looked at held-out rows, too: they count, and tell their rows.
-- Those verdicts are the ones that do not know their event.
update verdict v set split = c.registered ->> 'split'
from candidate c
where c.model = v.model and c.version = v.version
    and v.event_id is null and v.split is null and v.gates <> '[]';

insert into holdout_use as h (model, split, uses)
select model, split, count(*) from verdict
where event_id is null and split is not null
group by model, split
on conflict (model, split) do update set uses = h.uses + excluded.uses;
