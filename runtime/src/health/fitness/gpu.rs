//! GPUs, asked of the driver's management library (NVML), which the container's runtime brings in.

use crate::error::HandlerError;

/// Every GPU answers, and there are as many as the platform says.
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
        // Not every image with a GPU has the library: that alone says nothing of the machine.
        Err(error) => {
            tracing::info!(
                "The GPU driver's management library is not here ({error}): GPUs are not checked."
            );
            Ok(())
        }
    }
}

#[cfg(not(feature = "gpu"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
pub(crate) fn check(_: Option<u32>) -> Result<(), HandlerError> {
    tracing::debug!("This worker was built without the feature `gpu`: GPUs are not checked.");
    Ok(())
}

#[cfg(feature = "gpu")]
struct Gpu {
    name: String,
    /// Bytes.
    memory: u64,
}

/// Judges what the driver says.
#[cfg(feature = "gpu")]
fn answer<E: std::fmt::Display>(
    expected: Option<u32>,
    ask: impl FnOnce() -> Result<Vec<Result<Gpu, E>>, E>,
) -> Result<(), HandlerError> {
    let fail = |message| Err(HandlerError::new("gpu", message));
    let gpus = match ask() {
        Ok(gpus) => gpus,
        Err(error) => return fail(format!("the GPU driver does not answer: {error}")),
    };
    let count = u32::try_from(gpus.len()).unwrap_or(u32::MAX);
    match expected {
        Some(expected) if count < expected => {
            return fail(format!(
                "{count} GPU(s) are here, and RUNPOD_GPU_COUNT says {expected}"
            ));
        }
        None if count == 0 => return fail("the GPU driver is here, but no GPU".to_owned()),
        _ => {}
    }
    for (index, gpu) in gpus.into_iter().enumerate() {
        match gpu {
            Ok(Gpu { name, memory: 0 }) => {
                return fail(format!("GPU {index}, {name}, says that it has no memory"));
            }
            Ok(Gpu { name, memory }) => {
                tracing::info!("GPU {index}: {name}, {} MiB.", memory / (1024 * 1024));
            }
            Err(error) => return fail(format!("GPU {index} does not answer: {error}")),
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
            (None, Err("lost"), "the GPU driver does not answer: lost"),
            (None, Ok(vec![]), "the GPU driver is here, but no GPU"),
            (
                Some(2),
                Ok(vec![Ok(1)]),
                "1 GPU(s) are here, and RUNPOD_GPU_COUNT says 2",
            ),
            (
                None,
                Ok(vec![Ok(1), Err("fell off the bus")]),
                "GPU 1 does not answer: fell off the bus",
            ),
            (
                None,
                Ok(vec![Ok(0)]),
                "GPU 0, H200, says that it has no memory",
            ),
        ] {
            assert_eq!(judge(expected, said), Err(problem.to_owned()));
        }
    }
}
