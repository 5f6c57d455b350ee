//! The GPU check. It queries the driver's management library (NVML), which the container runtime provides.

use crate::error::HandlerError;

/// Checks that every GPU responds, and that there are as many as the platform has assigned.
#[cfg(feature = "gpu")]
pub(crate) fn check(expected: Option<u32>) -> Result<(), HandlerError> {
    match nvml_wrapper::Nvml::init() {
        Ok(driver) => answer(expected, || {
            let count = driver.device_count()?;
            let one = |index| {
                let device = driver.device_by_index(index)?;
                Ok(Gpu {
                    name: device.name()?,
                    memory: device.memory_info()?.total,
                })
            };
            Ok::<_, nvml_wrapper::error::NvmlError>((0..count).map(one).collect())
        }),
        // Some images for GPUs do not include the library, so its absence does not mean that the machine is broken.
        Err(error) => {
            tracing::info!(
                %error,
                "Skipping the GPU check: cannot load the GPU driver library (NVML)."
            );
            Ok(())
        }
    }
}

#[cfg(not(feature = "gpu"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
pub(crate) fn check(_: Option<u32>) -> Result<(), HandlerError> {
    tracing::debug!("Skipping the GPU check: the worker was built without the feature `gpu`.");
    Ok(())
}

#[cfg(feature = "gpu")]
struct Gpu {
    name: String,
    /// Total memory, in bytes.
    memory: u64,
}

/// Checks the driver's response.
#[cfg(feature = "gpu")]
fn answer<E: std::fmt::Display>(
    expected: Option<u32>,
    ask: impl FnOnce() -> Result<Vec<Result<Gpu, E>>, E>,
) -> Result<(), HandlerError> {
    let fail = |message| Err(HandlerError::new("gpu", message));
    let gpus = match ask() {
        Ok(gpus) => gpus,
        Err(error) => return fail(format!("the GPU driver does not respond: {error}")),
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
        match gpu {
            Ok(Gpu { name, memory: 0 }) => {
                return fail(format!("GPU {index} ({name}) reports no memory"));
            }
            Ok(Gpu { name, memory }) => {
                tracing::info!(index, %name, memory_mib = memory / (1024 * 1024), "Found a GPU.");
            }
            Err(error) => return fail(format!("GPU {index} does not respond: {error}")),
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
            name: "H200".to_owned(),
            memory,
        };
        let said = said.map(|gpus| gpus.into_iter().map(|said| said.map(gpu)).collect());
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
