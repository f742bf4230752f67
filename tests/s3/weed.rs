//! A SeaweedFS for the tests: a server that speaks S3, one for the whole test process, started by who first asks for
//! it.

use std::io::{BufRead, BufReader, Read};
use std::process::ChildStdin;
use std::sync::OnceLock;

use super::python::{self, Running};

/// Known to this server alone.
pub(crate) const ACCESS_KEY: &str = "whisperq-tests";
pub(crate) const SECRET_KEY: &str = "whisperq-tests-secret";

/// Its folder and its process end with this process, however that ends: statics are never dropped, but the kernel
/// closes the pipe that `weed.py` listens at.
pub(crate) struct Weed {
    /// Host and port of its S3.
    pub(crate) address: String,
    _lifeline: ChildStdin,
}

impl Weed {
    pub(crate) fn shared() -> &'static Self {
        static WEED: OnceLock<Weed> = OnceLock::new();
        WEED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let weed = python::packages().join("bin/weed");
        let args = [weed.to_str().unwrap(), ACCESS_KEY, SECRET_KEY];
        let Running { input, output, mut child } = python::start("weed.py", &args, &[]);
        let (mut said, mut output) = (String::new(), BufReader::new(output));
        output.read_line(&mut said).unwrap();
        let Ok(port) = said.trim().parse::<u16>() else {
            output.read_to_string(&mut said).unwrap();
            panic!("SeaweedFS did not start ({}):\n{said}", child.wait().unwrap());
        };
        Self { address: format!("127.0.0.1:{port}"), _lifeline: input }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a program needs to use it; a later AWS_ENDPOINT_URL_S3 may put a proxy between.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_S3", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            // What boto3 reads in place of AWS_REGION.
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }
}
