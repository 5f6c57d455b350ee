//! The check of the GPUs, with a library in place of the driver's.

use std::path::Path;

use podwork_tests::{Answer, Binary, Recorded, Scripted, job, shared_library};
use serde_json::json;

/// A driver with one GPU. Each variable sets the code that a call returns, 0 if it is not set.
const DRIVER: &str = r#"
#include <stdio.h>
#include <stdlib.h>

static int code(const char *call) {
    const char *set = getenv(call);
    return set ? atoi(set) : 0;
}

int nvmlInit_v2(void) { return code("NVML_INIT"); }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return code("NVML_COUNT"); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = device; return code("NVML_HANDLE"); }
int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    snprintf(name, length, "Test GPU");
    return code("NVML_NAME");
}
#ifndef OLD
int nvmlDeviceGetMemoryInfo_v2(void *device, unsigned long long *memory) {
    memory[1] = 8ull << 30; /* After the version: the total. */
    return code("NVML_MEMORY");
}
#endif
"#;

const LIBRARY: &str = "libnvidia-ml.so.1";
const NOT_SUPPORTED: &str = "3";
const NO_PERMISSION: &str = "4";
const DRIVER_NOT_LOADED: &str = "9";
const FUNCTION_NOT_FOUND: &str = "13";
const GPU_IS_LOST: &str = "15";
const VERSION_MISMATCH: &str = "18";
const OTHER_STRUCT_VERSION: &str = "25";
const UNKNOWN: &str = "999";

/// Returns the log line with the result of the check, and the exit code of the worker.
async fn check(driver: &str, codes: &[(&'static str, &str)]) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let _ = shared_library(folder.path(), LIBRARY, driver);
    check_in(folder.path(), codes).await
}

/// Like [`check`], with the library in this folder.
async fn check_in(folder: &Path, codes: &[(&'static str, &str)]) -> (String, Option<i32>) {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take-batch", 0) => Answer::Json(200, job("j", json!({"do": "refresh"}))),
            ("job-take" | "job-take-batch" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        },
    )
    .await;
    let codes = codes.iter().map(|(name, code)| (*name, (*code).to_owned()));
    let library = ("LD_LIBRARY_PATH", folder.display().to_string());
    let worker = Binary::new(env!("CARGO_BIN_EXE_podwork-test-worker"), &[]);
    let mut worker = worker
        .env(platform.env("w"))
        .env(codes)
        .env([library])
        .start();
    let line = worker.line("GPU").await;
    // A worker that is fit takes the job, which ends the worker.
    (line, worker.code().await)
}

#[tokio::test]
async fn a_gpu_that_responds_is_fit() {
    let (line, code) = check(DRIVER, &[("RUNPOD_GPU_COUNT", "1")]).await;
    assert!(
        line.contains("Found a GPU. index=0 name=Test GPU memory_mib=8192"),
        "{line}"
    );
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn a_driver_that_cannot_report_the_memory_is_fit() {
    let old = format!("#define OLD\n{DRIVER}");
    for (driver, memory) in [
        (DRIVER, NOT_SUPPORTED),
        (DRIVER, NO_PERMISSION),
        (DRIVER, FUNCTION_NOT_FOUND),
        (DRIVER, OTHER_STRUCT_VERSION),
        (&old, "0"),
    ] {
        let codes = [("RUNPOD_GPU_COUNT", "1"), ("NVML_MEMORY", memory)];
        let (line, code) = check(driver, &codes).await;
        assert!(
            line.contains("It does not report its memory."),
            "{memory}: {line}"
        );
        assert!(line.contains("name=Test GPU"), "{memory}: {line}");
        assert_eq!(code, Some(0), "{memory}");
    }
    let (line, code) = check(DRIVER, &[("NVML_NAME", NOT_SUPPORTED)]).await;
    assert!(line.contains("name=unknown memory_mib=8192"), "{line}");
    assert_eq!(code, Some(0));
    let (line, code) = check(DRIVER, &[("NVML_COUNT", NOT_SUPPORTED)]).await;
    assert!(
        line.contains("the GPU driver cannot list the GPUs"),
        "{line}"
    );
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn a_driver_that_fails_is_unfit() {
    for (call, error, part) in [
        (
            "NVML_INIT",
            UNKNOWN,
            "the GPU driver does not respond: an internal driver error",
        ),
        (
            "NVML_INIT",
            VERSION_MISMATCH,
            "the GPU driver does not respond: RM detects a driver/library version mismatch",
        ),
        (
            "NVML_INIT",
            DRIVER_NOT_LOADED,
            "the GPU driver does not respond: NVIDIA driver is not loaded",
        ),
        (
            "NVML_COUNT",
            UNKNOWN,
            "the GPU driver does not respond: an internal driver error",
        ),
        (
            "NVML_HANDLE",
            GPU_IS_LOST,
            "GPU 0 does not respond: device fell off the bus",
        ),
        (
            "NVML_MEMORY",
            GPU_IS_LOST,
            "GPU 0 does not respond: device fell off the bus",
        ),
    ] {
        let (line, code) = check(DRIVER, &[("RUNPOD_GPU_COUNT", "1"), (call, error)]).await;
        assert!(line.contains(part), "{call}: {line}");
        assert_eq!(code, Some(1), "{call}");
    }
}

#[tokio::test]
async fn a_driver_library_without_a_driver_is_fit_if_no_gpu_is_required() {
    for count in [None, Some(("RUNPOD_GPU_COUNT", "0"))] {
        let codes: Vec<_> = count
            .into_iter()
            .chain([("NVML_INIT", DRIVER_NOT_LOADED)])
            .collect();
        let (line, code) = check(DRIVER, &codes).await;
        assert!(
            line.contains("Skipping the GPU check: the GPU driver does not respond"),
            "{line}"
        );
        assert_eq!(code, Some(0));
    }
}

#[tokio::test]
async fn a_driver_library_that_cannot_be_used_is_unfit_if_a_gpu_is_required() {
    let unloadable = tempfile::tempdir().unwrap();
    std::fs::write(unloadable.path().join(LIBRARY), "").unwrap();
    let without_symbols = tempfile::tempdir().unwrap();
    let _ = shared_library(without_symbols.path(), LIBRARY, "int other;");
    for folder in [unloadable.path(), without_symbols.path()] {
        let (line, code) = check_in(folder, &[("RUNPOD_GPU_COUNT", "1")]).await;
        assert!(line.contains("the GPU driver does not respond"), "{line}");
        assert_eq!(code, Some(1), "{line}");

        let (line, code) = check_in(folder, &[("RUNPOD_GPU_COUNT", "0")]).await;
        assert!(line.contains("Skipping the GPU check"), "{line}");
        assert_eq!(code, Some(0), "{line}");
    }
}
