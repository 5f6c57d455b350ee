//! The environment variables of soaks.

use std::time::Duration;

/// Returns the time for which a soak runs, `PODWORK_SOAK_SECONDS` (default: 60), and the seed of its choices,
/// `PODWORK_SOAK_SEED` (default: random), which it prints.
///
/// # Panics
/// Panics if a variable is not a number.
#[must_use]
pub fn soak_options() -> (Duration, u64) {
    let number = |name| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} is a number: {text}")),
        )
    };
    let time = Duration::from_secs(number("PODWORK_SOAK_SECONDS").unwrap_or(60));
    let seed = number("PODWORK_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("PODWORK_SOAK_SEED={seed}");
    (time, seed)
}
