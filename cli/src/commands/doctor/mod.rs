//! `podwork doctor`.

mod checks;
mod finding;

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::args::Doctor;
use finding::{Finding, Verdict};

pub(crate) async fn doctor(args: Doctor) -> Result<ExitCode> {
    let findings = [
        checks::rust(),
        checks::c_compiler(),
        checks::worker(),
        checks::image_tool(),
        checks::environment(|name| std::env::var(name).ok()),
        checks::port(args.port),
        checks::endpoint(args.endpoint.as_deref(), args.api_key.as_deref()).await,
    ];
    let fit = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Bad);
    if args.json {
        println!("{}", json!({ "fit": fit, "findings": findings }));
    } else {
        findings.iter().for_each(print);
    }
    Ok(if fit {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(finding: &Finding) {
    let Finding {
        name,
        verdict,
        found,
        cure,
    } = finding;
    let sign = match verdict {
        Verdict::Good => "ok",
        Verdict::Note => "note",
        Verdict::Bad => "BAD",
    };
    println!("{sign:<5}{name:<12}{found}");
    if let Some(cure) = cure {
        println!("{:17}→ {cure}", "");
    }
}
