-- What /system and /health read: how busy each worker was in the last minute, and how much got done. All of it is bounded
-- by what happens in a minute, not by history.

-- Everything that ended in the last minute is one range of this index.
create index attempts_by_end on attempts (finished_at_ms, process_id, worker_id, started_at_ms);
create index jobs_waiting on jobs (created_at_ms) where state = 'queued';

drop view workers;

-- The threads that transcribe, of all running processes. `busy_ratio`: the share of the last 60 s (or since the process
-- began) in which it held a chunk.
create view workers as
with clock as (select cast((julianday('now') - 2440587.5) * 86400000 as integer) as now_ms)
select w.process_id, w.worker_id, w.model, w.model_instance, w.device,
    case when w.state = 'ready' and t.id is not null then 'busy' else w.state end as status,
    j.id as current_job, t.seq as current_chunk, w.chunks_done, w.audio_ms / 1000.0 as audio_seconds,
    w.engine_ms / 1000.0 as engine_seconds, w.error,
    min(1.0, (
        coalesce((
            select sum(a.finished_at_ms - max(a.started_at_ms, c.now_ms - 60000)) from attempts a
            where a.finished_at_ms > c.now_ms - 60000 and a.process_id = w.process_id and a.worker_id = w.worker_id
        ), 0)
        + coalesce((
            select c.now_ms - max(a.started_at_ms, c.now_ms - 60000) from attempts a
            where a.task_id = t.id and a.attempt = t.attempt
        ), 0)
    ) / (1.0 * max(1, min(60000, c.now_ms - p.started_at_ms)))) as busy_ratio
from worker_threads w
join processes p on p.id = w.process_id and p.ended_at_ms is null
join clock c
left join tasks t on t.process_id = w.process_id and t.worker_id = w.worker_id and t.state = 'running'
left join jobs j on j.pk = t.job_pk;

-- One row: what the last 60 seconds brought.
create view throughput as
with clock as (select cast((julianday('now') - 2440587.5) * 86400000 as integer) as now_ms)
select 60 as window_seconds,
    count(*) as chunks,
    coalesce(sum(t.end_sample - t.start_sample), 0) / 16000.0 as audio_seconds,
    coalesce(sum(t.end_sample - t.start_sample), 0) / 16000.0 / 60 as audio_seconds_per_second,
    (select count(*) from jobs, clock where finished_at_ms > now_ms - 60000 and state = 'completed') as jobs_completed
from clock
join attempts a on a.finished_at_ms > clock.now_ms - 60000
join tasks t on t.id = a.task_id and t.kind = 'transcribe' and t.pass = 0
where a.outcome = 'done';

-- A recording is prepared for the model that will transcribe it: the lane names that model.
update tasks set lane = (
    select iif(coalesce(j.source_bytes, 1 << 40) <= 16777216, 'small/', 'large/') || j.model || coalesce('@' || j.owner, '')
    from jobs j where j.pk = tasks.job_pk)
where kind = 'prepare' and state in ('blocked', 'delayed', 'queued', 'running');
