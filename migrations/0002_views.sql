-- What users may query. Columns are only ever added.

create view workers as
select w.process_id, w.worker_id, w.model, w.model_instance, w.device,
    case when w.state = 'ready' and t.id is not null then 'busy' else w.state end as status,
    j.id as current_job, t.seq as current_chunk, w.chunks_done, w.audio_ms / 1000.0 as audio_seconds,
    w.engine_ms / 1000.0 as engine_seconds, w.error
from worker_threads w
join processes p on p.id = w.process_id and p.ended_at_ms is null
left join tasks t on t.process_id = w.process_id and t.worker_id = w.worker_id and t.state = 'running'
left join jobs j on j.pk = t.job_pk;

-- Which worker did what, when and for how long: one row per claim.
create view chunks as
select j.id as job_id, t.kind, t.pass, t.seq, a.attempt, a.process_id, a.worker_id,
    t.start_sample / 16 as start_ms, t.end_sample / 16 as end_ms, t.hard_cut,
    a.started_at_ms, a.finished_at_ms, a.finished_at_ms - a.started_at_ms as took_ms, a.engine_ms, a.outcome, a.error
from attempts a
join tasks t on t.id = a.task_id
join jobs j on j.pk = a.job_pk;

-- In order of pass, seq (the chunk) and n.
create view segments as
select j.id as job_id, s.pass, s.seq, s.n, s.start_ms, s.end_ms, s.text, s.temperature, s.avg_logprob, s.compression_ratio, s.no_speech_prob
from chunk_segments s
join jobs j on j.pk = s.job_pk;

-- One row: jobs waiting for their first worker, chunks and preparations in work, and since when the oldest job waits.
create view queue as
select (select jobs from job_counts where state = 'queued') as size,
    (select count(*) from tasks where state = 'running') as processing,
    (select min(created_at_ms) from jobs where state = 'queued') as oldest_created_at_ms;
