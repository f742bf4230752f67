//! Log lines as RunPod's console reads them: one JSON object each, under the name of the job that it is about.

use std::fmt;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// What the spans and events of a job call it.
const JOB: &str = "job";

/// `{"requestId", "message", "level"}`; the other fields of an event are part of its message.
pub(super) struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for Lines {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let job = fields.others.remove(JOB).or_else(|| job_of_span(context));
        let mut message = fields.message;
        for (name, value) in fields.others {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            message.push_str(&format!(" {name}={value}"));
        }
        let level = event.metadata().level().as_str();
        writeln!(out, "{}", json!({"requestId": job, "message": message, "level": level}))
    }
}

fn job_of_span<S: Subscriber + for<'a> LookupSpan<'a>>(context: &FmtContext<'_, S, JsonFields>) -> Option<Value> {
    let scope = context.event_scope()?;
    scope.into_iter().find_map(|span| {
        let extensions = span.extensions();
        let fields = extensions.get::<FormattedFields<JsonFields>>()?;
        serde_json::from_str::<Map<String, Value>>(&fields.fields).ok()?.remove(JOB)
    })
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}"));
    }
}

impl Fields {
    fn keep(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.others.insert(field.name().to_owned(), value.into());
        }
    }
}
