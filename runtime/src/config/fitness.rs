use podwork_protocol::env;

use crate::error::Error;

/// Default of [`Fitness::min_disk_percent`]: that of the official worker.
const MIN_DISK_PERCENT: f64 = 10.0;
/// Default of [`Fitness::min_memory_gb`]. The official worker requires 4 GiB on the whole machine. This check honours
/// the container's own limit, and small containers are fine.
const MIN_MEMORY_GB: f64 = 0.0;

/// The limits of the built-in fitness checks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fitness {
    /// Minimum memory that must be available, in GiB.
    pub(crate) min_memory_gb: f64,
    /// Minimum disk space that must be free, in percent.
    pub(crate) min_disk_percent: f64,
    /// Skips the checks of memory and disk.
    pub(crate) skip_system: bool,
    /// Skips the check of the GPUs.
    pub(crate) skip_gpu: bool,
    /// Number of GPUs that the platform has assigned.
    pub(crate) gpus: Option<u32>,
}

impl Fitness {
    pub(super) fn read(get: &impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let is_true = |name| get(name).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
        Ok(Self {
            min_memory_gb: amount(get, env::MIN_MEMORY_GB, MIN_MEMORY_GB)?,
            min_disk_percent: amount(get, env::MIN_DISK_PERCENT, MIN_DISK_PERCENT)?,
            skip_system: is_true(env::SKIP_AUTO_SYSTEM_CHECKS),
            skip_gpu: is_true(env::SKIP_GPU_CHECK),
            // An invalid value is ignored: the platform sets this variable, and the user cannot fix it.
            gpus: get(env::GPU_COUNT).and_then(|count| count.trim().parse().ok()),
        })
    }
}

fn amount(
    get: &impl Fn(&str) -> Option<String>,
    variable: &'static str,
    default: f64,
) -> Result<f64, Error> {
    let Some(value) = get(variable) else {
        return Ok(default);
    };
    match value.trim().parse::<f64>() {
        Ok(amount) if amount.is_finite() && amount >= 0.0 => Ok(amount),
        _ => Err(Error::MalformedVariable {
            variable,
            value,
            problem: "not a non-negative number".to_owned(),
            expected: "a number, such as 4.5",
        }),
    }
}
