-- What is looked at again and again is found by what is new, not by what is kept.

-- local: the newest critical window of each version; when a report of it is due, null once it was
-- ordered, and when the last one was.
create table alarm_report (
    model      text not null,
    version    integer not null,
    "window"   integer not null,
    due_at     timestamptz,
    ordered_at timestamptz,
    primary key (model, version)
);
create index alarm_report_due on alarm_report (due_at) where due_at is not null;

insert into alarm_report (model, version, "window", due_at, ordered_at)
select w.model, w.version, w.number,
    case when w.number > coalesce(r."window", 0)
        then greatest(now(), r.requested_at + interval '1 day') end,
    r.requested_at
from (
    select model, version, max(number) as number from window_sketch
    where severity = 'critical' group by model, version
) w left join (
    select model, version, max("window") as "window", max(requested_at) as requested_at from report
    where requested_by = 'tidewheel' group by model, version
) r using (model, version);
drop index window_critical;

-- The newest closed windows that are old enough to have their labels, by the monitor's own clock:
-- those that are too young may be thousands.
create index window_closed on window_sketch (model, version, closed_at) where closed_at is not null;
