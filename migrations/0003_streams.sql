-- What streaming preparation needs: how large a recording is (small ones have a decoding slot of their own), and how much
-- of a segment is speech.

alter table jobs add column source_bytes integer check (source_bytes >= 0);
-- Mean probability of speech over the segment, by the voice activity detector.
alter table chunk_segments add column speech_prob real check (speech_prob between 0 and 1);

-- Translations were the only pass of their jobs; now they are the second one.
update chunk_segments set pass = 1
where pass = 0 and job_pk in (select pk from jobs where coalesce(options ->> '$.translate', 0));
update tasks set pass = 1
where kind = 'transcribe' and pass = 0 and job_pk in (select pk from jobs where coalesce(options ->> '$.translate', 0));

drop view segments;

-- In order of pass (0: as spoken, 1: translated), seq (the chunk) and n.
create view segments as
select j.id as job_id, s.pass, s.seq, s.n, s.start_ms, s.end_ms, s.text, s.temperature, s.avg_logprob, s.compression_ratio, s.no_speech_prob,
    s.speech_prob
from chunk_segments s
join jobs j on j.pk = s.job_pk;
