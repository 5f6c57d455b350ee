//! The public error type.

/// An error from starting the platform, or from submitting or cancelling a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The platform cannot listen on the address.
    #[error("cannot listen on {address}: {reason}; {cure}")]
    Bind {
        /// Host and port.
        address: String,
        /// The operating system's error.
        reason: std::io::Error,
        /// A hint on how to fix it.
        cure: &'static str,
    },

    /// An endpoint id is invalid.
    #[error("invalid endpoint id `{0}`: use 1 to 64 letters, digits, `-` or `_`")]
    EndpointId(String),

    /// A fault cannot be parsed.
    #[error(
        "invalid fault `{0}`: expected errors=0.1, throttled=0.1, dropped=0.1, lost=0.1 (fractions of all calls), \
         latency=20ms..200ms, blackout=2s/30s or seed=7, separated by commas"
    )]
    Fault(String),

    /// A rule of an endpoint cannot be parsed.
    #[error(
        "invalid rule `{0}`: expected current, run_rate=0, run_rate=1000/10s, chunk=64KB, ttl=1h, ttl_range=1s..7d, \
         run_retention=5m, tries=5 or another field of `Rules`, separated by commas"
    )]
    Rule(String),

    /// A schema file cannot be read or parsed.
    #[error(
        "cannot read schema file {file}: {problem}; use the output of --rp_schema of a worker with \
         `#[handler(schema)]`, or write {{\"input\": …, \"output\": …}} with a JSON Schema for each"
    )]
    Schema {
        /// The file's path.
        file: String,
        /// The cause.
        problem: String,
    },

    /// An API key cannot be used.
    #[error("invalid {name}: {problem}")]
    ApiKey {
        /// The name of the key.
        name: &'static str,
        /// The cause.
        problem: &'static str,
    },

    /// An allowed host is invalid.
    #[error(
        "invalid allowed host `{0}`: write a name such as `platform` or `platform.default.svc`, without scheme and port"
    )]
    AllowedHost(String),

    /// An allowed origin is invalid.
    #[error(
        "invalid allowed origin `{0}`: write scheme, host and port of one app, such as `http://localhost:3000`"
    )]
    AllowedOrigin(String),

    /// The webhook secret cannot be read or is invalid.
    #[error("webhook secret: {0}; use `whsec_` and base64, or any text of 16 bytes or more")]
    WebhookSecret(String),

    /// The platform rejected the call.
    #[error("{0}")]
    Refused(String),
}
