//! The GPU check. It queries the driver's management library (NVML), which the container runtime provides.

use crate::error::HandlerError;

#[cfg(feature = "gpu")]
use nvml_wrapper::{Nvml, error::NvmlError};

/// Checks that every GPU responds, and that there are as many as the platform has assigned.
#[cfg(feature = "gpu")]
pub(crate) fn check(expected: Option<u32>) -> Result<(), HandlerError> {
    match Nvml::init() {
        Ok(driver) => answer(expected, || {
            let Some(count) = if_available(driver.device_count())? else {
                return Ok(None);
            };
            Ok::<_, NvmlError>(Some((0..count).map(|index| gpu(&driver, index)).collect()))
        }),
        // Some images for GPUs do not include the library, so its absence does not mean that the machine is broken.
        Err(error) if is_missing(&error) => {
            tracing::info!(
                %error,
                "Skipping the GPU check: cannot load the GPU driver library (NVML)."
            );
            Ok(())
        }
        Err(error) if expected.is_some_and(|gpus| gpus > 0) => Err(no_response(&error)),
        // The library may be here without a GPU.
        Err(error) => {
            tracing::warn!(
                %error,
                "Skipping the GPU check: the GPU driver does not respond, and RUNPOD_GPU_COUNT requires no GPU."
            );
            Ok(())
        }
    }
}

/// Returns whether the driver's library is not here at all. One that is here but cannot be loaded is broken.
#[cfg(feature = "gpu")]
fn is_missing(error: &NvmlError) -> bool {
    let NvmlError::LibloadingError(error) = error else {
        return false;
    };
    // The loader explains it only in words.
    let why = error.to_string().to_ascii_lowercase();
    !cfg!(unix) || (why.contains("no such file") && why.contains("libnvidia-ml"))
}

#[cfg(not(feature = "gpu"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
pub(crate) fn check(_: Option<u32>) -> Result<(), HandlerError> {
    tracing::debug!("Skipping the GPU check: the worker was built without the feature `gpu`.");
    Ok(())
}

/// The answers of a GPU. `None`: the driver cannot answer, which does not mean that the GPU is broken.
#[cfg(feature = "gpu")]
struct Gpu {
    name: Option<String>,
    /// Total memory, in bytes.
    memory: Option<u64>,
}

#[cfg(feature = "gpu")]
fn gpu(driver: &Nvml, index: u32) -> Result<Gpu, NvmlError> {
    let device = driver.device_by_index(index)?;
    Ok(Gpu {
        name: if_available(device.name())?,
        memory: if_available(device.memory_info())?.map(|memory| memory.total),
    })
}

/// Returns `None` if the driver cannot answer a query on this machine. GPUs that share the machine's memory do not
/// report it, parts of a GPU (MIG) may not be allowed to, and older drivers lack some queries.
#[cfg(feature = "gpu")]
fn if_available<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    /// `NVML_ERROR_ARGUMENT_VERSION_MISMATCH` and `NVML_ERROR_DEPRECATED`.
    const OTHER_VERSION: std::ops::RangeInclusive<u32> = 25..=26;
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(
            NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::NoData
            | NvmlError::Utf8Error(_),
        ) => Ok(None),
        Err(NvmlError::UnexpectedVariant(code)) if OTHER_VERSION.contains(&code) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(feature = "gpu")]
fn no_response(error: &dyn std::fmt::Display) -> HandlerError {
    HandlerError::new("gpu", format!("the GPU driver does not respond: {error}"))
}

/// Checks the driver's response. `None`: it cannot list the GPUs.
#[cfg(feature = "gpu")]
fn answer<E: std::fmt::Display>(
    expected: Option<u32>,
    ask: impl FnOnce() -> Result<Option<Vec<Result<Gpu, E>>>, E>,
) -> Result<(), HandlerError> {
    let fail = |message| Err(HandlerError::new("gpu", message));
    let gpus = match ask() {
        Ok(Some(gpus)) => gpus,
        Ok(None) => {
            tracing::warn!("Skipping the GPU check: the GPU driver cannot list the GPUs.");
            return Ok(());
        }
        Err(error) => return Err(no_response(&error)),
    };
    let count = u32::try_from(gpus.len()).unwrap_or(u32::MAX);
    match expected {
        Some(expected) if count < expected => {
            return fail(format!(
                "found {count} GPU(s), but RUNPOD_GPU_COUNT is {expected}"
            ));
        }
        None if count == 0 => return fail("found a GPU driver, but no GPU".to_owned()),
        _ => {}
    }
    for (index, gpu) in gpus.into_iter().enumerate() {
        let gpu = match gpu {
            Ok(gpu) => gpu,
            Err(error) => return fail(format!("GPU {index} does not respond: {error}")),
        };
        let name = gpu.name.unwrap_or_else(|| "unknown".to_owned());
        match gpu.memory {
            Some(0) => return fail(format!("GPU {index} ({name}) reports no memory")),
            Some(memory) => {
                tracing::info!(index, %name, memory_mib = memory / (1024 * 1024), "Found a GPU.");
            }
            None => tracing::info!(index, %name, "Found a GPU. It does not report its memory."),
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;

    fn judge(
        expected: Option<u32>,
        said: Result<Vec<Result<u64, &'static str>>, &'static str>,
    ) -> Result<(), String> {
        let gpu = |memory| Gpu {
            name: Some("H200".to_owned()),
            memory: Some(memory),
        };
        let said = said.map(|gpus| Some(gpus.into_iter().map(|said| said.map(gpu)).collect()));
        answer(expected, || said).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_gpu_must_answer() {
        assert_eq!(judge(None, Ok(vec![Ok(1), Ok(1)])), Ok(()));
        assert_eq!(judge(Some(0), Ok(vec![])), Ok(()));
        for (expected, said, problem) in [
            (None, Err("lost"), "the GPU driver does not respond: lost"),
            (None, Ok(vec![]), "found a GPU driver, but no GPU"),
            (
                Some(2),
                Ok(vec![Ok(1)]),
                "found 1 GPU(s), but RUNPOD_GPU_COUNT is 2",
            ),
            (
                None,
                Ok(vec![Ok(1), Err("fell off the bus")]),
                "GPU 1 does not respond: fell off the bus",
            ),
            (None, Ok(vec![Ok(0)]), "GPU 0 (H200) reports no memory"),
        ] {
            assert_eq!(judge(expected, said), Err(problem.to_owned()));
        }
    }
}
