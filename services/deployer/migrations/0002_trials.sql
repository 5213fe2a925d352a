-- What a version goes through has more stages, and a version may come back as the best one.
alter table rollout drop constraint rollout_stage_check;
alter table rollout add constraint rollout_stage_check check (stage in
    ('awaiting_verdict', 'awaiting_approval', 'awaiting_window', 'shadow', 'canary', 'experiment',
     'promoted', 'aborted', 'superseded', 'rejected'));

alter table rollout drop constraint rollout_model_version_key;
alter table rollout add column best boolean not null default false;
create unique index one_rollout_of_its_own_per_version on rollout (model, version) where not best;

-- The order in which rollouts began, for lists.
alter table rollout add column number bigserial;
create index rollouts_in_order on rollout (model, number);

-- Experiments stay beside each other and beside one rollout on its way; a version is in one place.
drop index one_active_rollout_per_model;
create unique index one_active_rollout_per_model on rollout (model)
    where stage in ('awaiting_approval', 'awaiting_window', 'shadow', 'canary');
create unique index one_experiment_per_version on rollout (model, version)
    where stage = 'experiment';

-- Policies are the specification's own words now; what was stored before is put into them.
create function pg_temp.rules_of(policy jsonb) returns jsonb language sql as $$
    select case when policy is null or policy = 'null' or policy ? 'rules' then policy
    else jsonb_build_object('objective', policy -> 'objective', 'rules', jsonb_build_object(
        'strategy', policy -> 'strategy',
        'steps', policy -> 'steps',
        'step_for', extract(epoch from (policy ->> 'step_for')::interval)::numeric || 's',
        'minimum_requests', policy -> 'minimum_requests',
        'give_up_after', extract(epoch from (policy ->> 'give_up_after')::interval)::numeric || 's',
        'window', case when policy ->> 'window' is null then '[]'::jsonb
                  else jsonb_build_array(policy -> 'window') end,
        'approval', case when policy ->> 'approval' = 'manual' then '{"needed": 1}'::jsonb
                    else '{"needed": 0}'::jsonb end,
        'probation', extract(epoch from (policy ->> 'probation')::interval)::numeric || 's'))
    end
$$;

create function pg_temp.rollout_of(body jsonb) returns jsonb language sql as $$
    select case when body is null or body = 'null' then body
    else (body - 'canary_at') || jsonb_build_object(
        'policy', pg_temp.rules_of(body -> 'policy'),
        'begun_at', coalesce(body -> 'canary_at', 'null'),
        'approvals', jsonb_build_object('manifest', body -> 'manifest',
            'evaluation', body -> 'evaluation', 'asked_at', body -> 'at', 'grants', '[]'::jsonb))
    end
$$;

update rollout set body = pg_temp.rollout_of(body);
update endpoint set body = (body - 'probation_until') || jsonb_build_object(
    'rollout', pg_temp.rollout_of(body -> 'rollout'),
    'awaiting', pg_temp.rollout_of(body -> 'awaiting'),
    'probation', case when body ->> 'probation_until' is null or body ->> 'champion' is null
        then 'null'::jsonb
        else jsonb_build_object('until', body -> 'probation_until',
            'rollout', '00000000-0000-0000-0000-000000000000',
            'version', body #> '{champion,version}',
            'first_generation', body -> 'generation',
            'policy', '{}'::jsonb) end);
