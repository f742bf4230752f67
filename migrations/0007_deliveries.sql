-- Where results go: to S3 first (seq 0 of a job's `deliver` tasks), then to webhooks (seq 1), which are told what became of
-- that, and to RunPod (seq 2), where the job came from its queue. The addresses are in the job's options, without what is secret of them.

-- Apart from the other options, which are nobody's business. Of any type, because a type would be checked at every write.
alter table jobs add column output_uri any generated always as (options ->> '$.output_uri') virtual;
alter table jobs add column webhook any generated always as (options ->> '$.webhook') virtual;
-- Whether it came from RunPod's queue, which waits for its result.
alter table jobs add column from_runpod any generated always as (options ->> '$.runpod.from_queue') virtual;

-- The results that RunPod waits for are asked for at every heartbeat.
create index tasks_for_runpod on tasks (job_pk)
    where kind = 'deliver' and seq = 2 and state in ('blocked', 'delayed', 'queued', 'running');

drop view deliveries;

-- What is on its way to where results go, and what became of it; one row per destination of a job.
create view deliveries as
select j.id as job_id, t.seq, t.state, t.attempt as attempts, t.error_count as errors, t.run_at_ms as next_attempt_at_ms,
    t.finished_at_ms,
    (select a.error from attempts a where a.task_id = t.id and a.error is not null order by a.attempt desc limit 1) as last_error,
    case t.seq when 0 then 'output' when 1 then 'webhook' when 2 then 'runpod' end as kind,
    case t.seq when 0 then j.output_uri when 1 then j.webhook when 2 then 'RUNPOD_WEBHOOK_POST_OUTPUT' end as target
from tasks t
join jobs j on j.pk = t.job_pk
where t.kind = 'deliver';

drop view job_history;

-- One row per job, with what it took. `source` never holds a query string or another secret.
create view job_history as
select j.id as job_id, j.state, j.front_door, j.source, j.model, j.language, j.priority, j.generation,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.created_at_ms / 1000.0, 'unixepoch') as created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.started_at_ms / 1000.0, 'unixepoch') as started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.finished_at_ms / 1000.0, 'unixepoch') as finished_at,
    j.created_at_ms, j.started_at_ms, j.finished_at_ms,
    j.started_at_ms - j.created_at_ms as delay_ms, j.finished_at_ms - j.started_at_ms as execution_ms,
    j.audio_ms / 1000.0 as audio_seconds,
    j.audio_ms * 1.0 / nullif(j.finished_at_ms - j.started_at_ms, 0) as speed_factor,
    (select count(*) from attempts a join tasks t on t.id = a.task_id where a.job_pk = j.pk and t.kind <> 'deliver') as attempts,
    j.error_code, j.error_message, j.metadata
from jobs j;
