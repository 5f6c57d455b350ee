//! Why the platform could not do what its library face was asked for.

/// Why the platform could not start, or did not take a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; {cure}")]
    Bind {
        /// Host and port.
        address: String,
        /// The error of the operating system.
        reason: std::io::Error,
        /// What to do.
        cure: &'static str,
    },

    /// The endpoint's id cannot stand in a URL.
    #[error("`{0}` cannot be an endpoint id: use 1 to 64 letters, digits, `-` or `_`")]
    EndpointId(String),

    /// No fault to be made on purpose.
    #[error(
        "`{0}` is no fault: write errors=0.1, throttled=0.1, dropped=0.1, lost=0.1 (shares of all calls), \
         latency=20ms..200ms, blackout=2s/30s or seed=7, with commas between them"
    )]
    Fault(String),

    /// No rule of an endpoint.
    #[error(
        "`{0}` is no rule: write run_rate=0, chunk=64KB, ttl=1h, ttl_range=1s..7d, run_retention=5m, tries=5 or another \
         of the names in the documentation of `Rules`, with commas between them"
    )]
    Rule(String),

    /// A file that does not say what an endpoint takes and gives.
    #[error(
        "{file}: {problem}; a worker whose handler is under `#[handler(schema)]` prints what is to be in it for --rp_schema, or \
         write {{\"input\": …, \"output\": …}} with a JSON Schema for each"
    )]
    Schema {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },

    /// The webhook secret cannot be read.
    #[error("webhook secret: {0}; use `whsec_` and base64, or any other text of 16 bytes or more")]
    WebhookSecret(String),

    /// The job was not taken.
    #[error("{0}")]
    Refused(String),
}
