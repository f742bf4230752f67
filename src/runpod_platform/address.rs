//! The addresses that RunPod names in the environment: templates with places for the worker, the job and the GPU.

/// Where jobs are taken, all at once or one by one, and where it is told which of them to stop.
pub(super) const TAKE: &str = "/job-take/";
pub(super) const TAKE_BATCH: &str = "/job-take-batch/";
pub(super) const STOP: &str = "/job-stop/";

/// What stands for `$RUNPOD_POD_ID` and `$RUNPOD_GPU_TYPE_ID` in every template.
pub(super) struct Places<'a> {
    pub(super) worker_id: &'a str,
    pub(super) gpu_type_id: &'a str,
}

impl Places<'_> {
    /// A template for jobs, whose `$ID` stays.
    pub(super) fn fill(&self, template: &str) -> String {
        let filled = template.replace("$RUNPOD_POD_ID", &encode(self.worker_id));
        filled.replace("$RUNPOD_GPU_TYPE_ID", &encode(self.gpu_type_id))
    }

    /// A template for the worker, whose `$ID` is the worker's too.
    pub(super) fn fill_for_worker(&self, template: &str) -> String {
        self.fill(template).replace("$ID", &encode(self.worker_id))
    }
}

/// The template of a job, filled.
pub(super) fn for_job(template: &str, job_id: &str) -> String {
    template.replace("$ID", &encode(job_id))
}

/// Adds parameters; RunPod's harness for the Hub gives templates without any.
pub(super) fn with(address: &str, parameters: &[(&str, &str)]) -> String {
    let mut address = address.to_owned();
    for (name, value) in parameters {
        address.push(if address.contains('?') { '&' } else { '?' });
        address.push_str(&format!("{name}={}", encode(value)));
    }
    address
}

/// Text as a part of an address.
fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    // A part of dots alone would mean a folder.
    let dots = text.bytes().all(|byte| byte == b'.');
    text.bytes()
        .map(|byte| if plain(&byte) && !dots { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places<'_> = Places { worker_id: "pod1", gpu_type_id: "NVIDIA A40" };

    #[test]
    fn every_place_is_filled_and_parameters_are_joined_as_the_template_has_it() {
        let cloud = PLACES.fill_for_worker("https://api.runpod.ai/v2/e/job-take/$ID?gpu=$RUNPOD_GPU_TYPE_ID");
        assert_eq!(cloud, "https://api.runpod.ai/v2/e/job-take/pod1?gpu=NVIDIA%20A40");
        assert_eq!(with(&cloud, &[("job_in_progress", "0")]), format!("{cloud}&job_in_progress=0"));
        let hub = PLACES.fill_for_worker("http://0.0.0.0:80/v2/IDE/job-take/$RUNPOD_POD_ID");
        assert_eq!(with(&hub, &[("a", "1"), ("b", "x,y")]), "http://0.0.0.0:80/v2/IDE/job-take/pod1?a=1&b=x%2Cy");
    }

    #[test]
    fn a_job_stays_within_its_part_of_the_address() {
        let template = PLACES.fill("http://h/job-done/$RUNPOD_POD_ID/$ID?gpu=1");
        assert_eq!(for_job(&template, "a-u1"), "http://h/job-done/pod1/a-u1?gpu=1");
        assert_eq!(for_job(&template, "../b?c"), "http://h/job-done/pod1/..%2Fb%3Fc?gpu=1");
        assert_eq!(for_job(&template, ".."), "http://h/job-done/pod1/%2E%2E?gpu=1");
    }
}
